from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from structlog.testing import capture_logs

from himalia_hub.pages.compiled import Kept, Packed, compile_all


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "hello.html").write_text("Hello {{ name }}")
    return folder


def environment(pages: Path, kept: Path, *made_by: Path, **options: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=Packed(jinja2.FileSystemLoader(pages)),
        bytecode_cache=Kept(kept, made_by),
        autoescape=options.get("autoescape", True),
    )


def said(env: jinja2.Environment) -> str:
    return env.get_template("hello.html").render(name="<b>")


def test_a_page_compiled_once_is_not_compiled_again_by_the_next_start(
    pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    compile_all(environment(pages, kept), pages)
    monkeypatch.setattr(jinja2.Environment, "compile", lambda *args, **_: pytest.fail(f"{args} is compiled"))

    assert said(environment(pages, kept)) == "Hello &lt;b&gt;"


def test_a_page_is_drawn_as_it_was_at_the_start(pages: Path, tmp_path: Path) -> None:
    env = environment(pages, tmp_path / "kept")
    compile_all(env, pages)
    (pages / "hello.html").write_text("Of the next version {{ else }}")

    assert said(env) == "Hello &lt;b&gt;"


def test_a_page_that_was_changed_or_is_set_up_otherwise_is_compiled_anew(pages: Path, tmp_path: Path) -> None:
    kept, set_up = tmp_path / "kept", tmp_path / "set_up.py"
    set_up.write_text("autoescape=True")
    assert said(environment(pages, kept, set_up)) == "Hello &lt;b&gt;"

    (pages / "hello.html").write_text("Good day {{ name }}")
    assert said(environment(pages, kept, set_up)) == "Good day &lt;b&gt;"

    set_up.write_text("autoescape=False")
    assert said(environment(pages, kept, set_up, autoescape=False)) == "Good day <b>"


def test_what_was_cut_off_is_compiled_anew(pages: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert said(environment(pages, kept)) == "Hello &lt;b&gt;"
    [file] = kept.iterdir()
    whole = file.read_bytes()

    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        assert said(environment(pages, kept)) == "Hello &lt;b&gt;", length


def test_pages_are_drawn_where_nothing_can_be_kept(pages: Path, tmp_path: Path) -> None:
    taken = tmp_path / "kept"
    taken.write_text("no folder")

    assert said(environment(pages, taken)) == "Hello &lt;b&gt;"


def test_a_site_page_that_cannot_be_compiled_is_named_with_its_line_and_hinders_no_other(
    pages: Path, tmp_path: Path
) -> None:
    (pages / "broken.html").write_text("one\n{% if %}")
    (pages / "bytes.html").write_bytes(b"\xff")
    env = environment(pages, tmp_path / "kept")

    with capture_logs() as logs:
        compile_all(env, pages)

    assert {(Path(one["file"]).name, one.get("line")) for one in logs} == {
        ("broken.html", 2),
        ("bytes.html", None),
    }
    assert said(env) == "Hello &lt;b&gt;"
