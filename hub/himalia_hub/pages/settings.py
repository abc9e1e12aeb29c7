"""The configuration of the hub's own pages."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from himalia_hub.languages.catalogue import load_all
from himalia_hub.section import Section


class PagesSection(Section):
    """[pages] — how the hub's own pages look."""

    template_paths: list[Path] = Field(
        default_factory=list,
        description="folders with templates that take the place of ours of the same name, the first folder first; "
        "ours stay reachable as `templates/NAME`",
    )
    languages: list[str] = Field(
        ["en", "de"],
        description="languages that people may choose, as their tags; the first is for those whose browser asks "
        "for none of them. `qps-ploc` marks every text that is ready for translation",
    )
    translation_paths: list[Path] = Field(
        default_factory=list,
        description="folders with catalogues of further languages, or of other words: `TAG/LC_MESSAGES/himalia.mo`",
    )

    @field_validator("template_paths", "translation_paths")
    @classmethod
    def _folders(cls, value: list[Path]) -> list[Path]:
        folders = [path.expanduser().absolute() for path in value]
        if missing := [str(path) for path in folders if not path.is_dir()]:
            raise ValueError(f"{', '.join(missing)}: no such folder; make it, or remove it from the list")
        return folders

    @model_validator(mode="after")
    def _catalogues(self) -> PagesSection:
        if not self.languages:
            raise ValueError("languages: empty; name at least `en`")
        try:
            load_all(tuple(self.languages), tuple(self.translation_paths))
        except FileNotFoundError as error:
            raise ValueError(f"languages: {error}") from error
        return self
