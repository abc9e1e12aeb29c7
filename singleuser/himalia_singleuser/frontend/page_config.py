"""What the JupyterLab page is told: URLs, versions, extensions, the hub it lives behind."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from urllib.parse import quote

from himalia_singleuser.frontend.places import Lab, read_json, read_json5
from himalia_singleuser.kernels.state import UNTRACKED_TYPES
from himalia_singleuser.settings import HubSettings, Settings
from himalia_singleuser.status import SERVER_VERSION, merge

LAB_URLS = {
    "appUrl": "lab",
    "treeUrl": "lab/tree",
    "labextensionsUrl": "lab/extensions",
    "licensesUrl": "lab/api/licenses",
    "listingsUrl": "lab/api/listings",
    "settingsUrl": "lab/api/settings",
    "themesUrl": "lab/api/themes",
    "translationsApiUrl": "lab/api/translations",
    "workspacesApiUrl": "lab/api/workspaces",
}

_stores = itertools.count()


def page_config(lab: Lab, *, mode: str, workspace: str, tree: str) -> dict[str, Any]:
    """The whole `jupyter-config-data`. Reads files: call it from a thread."""
    config = _fixed(lab) | _addresses(lab.settings)
    config |= {"mode": mode, "workspace": workspace, "treePath": tree}
    config["store_id"] = next(_stores)
    _from_disk(lab, config)
    return config


def notebook_config(lab: Lab, package: Path, *, kind: str, tree: str) -> dict[str, Any]:
    """The same for a page of Jupyter Notebook. `package`: where its wheel was unpacked."""
    from importlib.metadata import version  # 0.8 MB that no server needs before its first page

    settings, base = lab.settings, quote(lab.settings.base_url, safe="/@~")
    config = _fixed(lab) | _addresses(settings)
    config |= {
        "appName": "Jupyter Notebook",
        "appNamespace": "notebook",
        "appVersion": version("notebook"),
        "fullStaticUrl": f"{base}static/notebook",
        "frontendUrl": base,
        "jupyterConfigDir": str(settings.config_dir),
        "notebookPage": kind,
        "staticDir": str(package / "static"),
        "templatesDir": str(package / "templates"),
    }
    if kind == "tree":
        config["treePath"] = tree
    _from_disk(lab, config)
    return config


def _addresses(settings: Settings) -> dict[str, Any]:
    """Where the page finds what, below the base URL and in full; what it knows of the hub."""
    # The page uses its cookie: a token in its source would be one more place to lose it from.
    config: dict[str, Any] = {"token": ""}
    for name, url in LAB_URLS.items():
        config[name] = f"/{url}"
        config["full" + name[0].upper() + name[1:]] = quote(settings.base_url, safe="/@~") + url
    if settings.hub:
        config |= _hub_keys(settings.hub, settings.base_url)
    return config


def _fixed(lab: Lab) -> dict[str, Any]:
    settings, base = lab.settings, quote(lab.settings.base_url, safe="/@~")
    root = str(settings.root_dir)
    return {
        "baseUrl": base,
        "wsUrl": "",
        "appName": "JupyterLab",
        "appNamespace": "lab",
        "appVersion": lab.version,
        "fullStaticUrl": f"{base}static/lab",
        "serverRoot": root,
        "preferredPath": "/",
        "rootUri": "file://" + quote(root),
        "virtualDocumentsUri": "file://" + quote(root + "/.virtual_documents"),
        "notebookVersion": f"[{SERVER_VERSION.replace('.', ', ')}]",
        "terminalsAvailable": settings.terminals,
        "notebookStartsKernel": True,
        "copyAbsolutePath": False,
        "cacheFiles": True,
        "devMode": False,
        "buildAvailable": False,
        "buildCheck": False,
        "quitButton": settings.hub is None,
        "exposeAppInBrowser": False,
        "allow_hidden_files": settings.allow_hidden,
        "delete_to_trash": settings.delete_to_trash,
        "ignorePlugins": [],
        "nbclassic_enabled": False,
        # The venv of this server is not the person's: nothing is installed from the page.
        "extensionManager": {"name": "read-only", "can_install": False, "install_path": None},
        "news": {"disabled": True},
        "mathjaxConfig": "TeX-AMS_HTML-full,Safe",
        "fullMathjaxUrl": "",
        # Read by our own extension (labextensions/himalia-outputs), which does nothing where it is missing.
        "himaliaOutputs": True,
        "untracked_message_types": list(UNTRACKED_TYPES),
        "extraLabextensionsPath": [],
        "labextensionsPath": [str(folder) for folder in lab.extension_folders],
        "staticDir": str(lab.static),
        "templatesDir": str(lab.static),
        "schemasDir": str(lab.schemas),
        "themesDir": str(lab.folder / "themes"),
        "appSettingsDir": str(lab.folder / "settings"),
        "userSettingsDir": str(lab.user_settings),
        "workspacesDir": str(lab.workspaces),
    }


def _hub_keys(hub: HubSettings, base_url: str) -> dict[str, Any]:
    share = hub.public_url or quote(base_url, safe="/@~")
    user_redirect = f"{hub.prefix}user-redirect/"
    if hub.server_name:
        user_redirect = share
    return {
        "hubPrefix": hub.base_url + "hub/",
        "hubHost": hub.host,
        "hubUser": hub.user,
        "hubServerName": hub.server_name,
        "shareUrl": user_redirect,
        # Read by labextensions/himalia-status, which does nothing where it is missing.
        "himaliaStatus": True,
    }


def _from_disk(lab: Lab, config: dict[str, Any]) -> None:
    """Admins' page_config.json files, then what the installed extensions declare."""
    layers = [read_json5(lab.folder / "settings/page_config.json")]
    layers += [read_json(file) for file in lab.config_files("page_config")]
    for layer in layers:
        for key in ("disabledExtensions", "deferredExtensions"):
            if isinstance(layer.get(key), list):
                layer[key] = {str(name): True for name in layer[key]}
        merge(config, layer)
    disabled = config.get("disabledExtensions")
    disabled = disabled if isinstance(disabled, dict) else {}
    extensions, disabled_by = _extensions(lab)
    for name in sorted(disabled_by):
        if disabled.get(name) is not True:
            for other in disabled_by[name]:
                disabled.setdefault(other, True)
    config["federated_extensions"] = extensions
    config["disabledExtensions"] = sorted(name for name, is_off in disabled.items() if is_off)
    if isinstance(config.get("deferredExtensions"), dict):
        config["deferredExtensions"] = sorted(name for name, on in config["deferredExtensions"].items() if on)


def _extensions(lab: Lab) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """What the page must load, and which extensions switch others off."""
    loaded, disabled_by = [], {}
    built_in = read_json(lab.static / "package.json").get("jupyterlab", {}).get("extensionMetadata", {})
    for name, metadata in built_in.items():
        if metadata.get("disabledExtensions"):
            disabled_by[name] = metadata["disabledExtensions"]
    for name, (_, package) in lab.federated().items():
        about = package.get("jupyterlab", {})
        build = about.get("_build")
        if not isinstance(build, dict) or "load" not in build:
            continue
        entry = {"name": name, "load": build["load"], "entrypoints": build.get("entrypoints")}
        entry |= {key: build[key] for key in ("extension", "mimeExtension", "style") if key in build}
        loaded.append(entry)
        if about.get("disabledExtensions"):
            disabled_by[name] = about["disabledExtensions"]
    return loaded, disabled_by
