"""Finding and reading device profiles: the catalogue beside this module, or a file of one's own.

A profile is a TOML file with a ``title`` and one table a figure. ``extends = "other"`` takes every
figure that the file does not state from ``other.toml`` in the same folder, or else from the
catalogue: the memory variants of a board differ in one figure or two.
"""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fieldtune.profiles.common.errors import ProfileError, did_you_mean
from fieldtune.profiles.common.validation import dotted, mistake
from fieldtune.profiles.device.profile import DeviceProfile, Figure, figure_fields

_CATALOGUE = Path(__file__).parent / "catalogue"


@lru_cache(maxsize=1)
def profile_names() -> list[str]:
    """Names of the catalogue's profiles, sorted."""
    return sorted(path.stem for path in _CATALOGUE.glob("*.toml"))


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """Load a profile by its name in the catalogue, or from a file.

    Args:
        name_or_path: a name such as ``raspberry-pi-4b``, a path, or a text that ends in ``.toml``
            or has a slash in it and so is taken for a path.

    Raises:
        ProfileError: unknown name, unreadable file, or a wrong figure; one sentence naming the
            file, the key and the value.
    """
    is_path = isinstance(name_or_path, Path) or name_or_path.endswith(".toml")
    if is_path or "/" in str(name_or_path) or "\\" in str(name_or_path):
        return _read(Path(name_or_path))
    return _from_catalogue(str(name_or_path))


@lru_cache(maxsize=64)
def _from_catalogue(name: str) -> DeviceProfile:
    if name not in profile_names():
        raise ProfileError(
            f"no device profile is called {name!r}{did_you_mean(name, profile_names())}; "
            "give one that `fieldtune profiles list` names, or the path of a .toml file"
        )
    return _read(_CATALOGUE / f"{name}.toml")


def _read(path: Path) -> DeviceProfile:
    table = _table(path, ())
    table.setdefault("name", path.stem)
    try:
        return DeviceProfile.model_validate(table)
    except ValidationError as error:
        said = mistake(error, DeviceProfile, special=_figure_sentence, also_known=["extends"])
        raise ProfileError(f"{path}: {said}") from None


def _table(path: Path, heirs: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file's tables, over those of the profile that it extends."""
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not a TOML file: {error}") from None
    if "extends" not in own:
        return own
    base_name = own.pop("extends")
    base = _base(path, base_name)
    if base in (path, *heirs):
        raise ProfileError(f"{path}: extends = {base_name!r} leads back to itself; end the circle")
    # The name and title of the base are its own; a figure is replaced as a whole.
    inherited = {
        k: v for k, v in _table(base, (path, *heirs)).items() if k not in ("name", "title")
    }
    return inherited | own


def _base(path: Path, name: Any) -> Path:
    folders = (path.parent, _CATALOGUE)
    known = sorted({p.stem for folder in folders for p in folder.glob("*.toml")})
    for folder in folders:
        # Compared with the names that are there, so that no name can lead out of the two folders.
        if name in known and (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    raise ProfileError(
        f"{path}: extends = {name!r} is neither in its folder nor in the catalogue"
        f"{did_you_mean(str(name), known)}"
    )


def _figure_sentence(error: ErrorDetails) -> str | None:
    """What is wrong with a figure, where more than pydantic's own words can be said of it."""
    key, kind, fields = dotted(error["loc"]), error["type"], figure_fields()
    figure, inside = str(error["loc"][0]), len(error["loc"]) > 1
    if kind == "missing" and figure in fields:
        if not inside:
            return f"{key} is missing: state {fields[figure].meaning}, in {fields[figure].unit!r}"
        if error["loc"][-1] == "unit":
            return f"{key} is missing: state it in {fields[figure].unit!r}"
    if kind == "figure":
        return f"{key}: {error['msg']}"
    if kind in ("model_type", "model_attributes_type"):
        keys = ", ".join(Figure.model_fields)
        return f"{key} = {error['input']!r}: a figure is a table with the keys {keys}"
    return None
