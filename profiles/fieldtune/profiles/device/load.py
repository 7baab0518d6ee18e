"""Loading device profiles from the built-in catalogue or from a user's file.

A profile is a TOML file with a ``title`` and one table per value. ``extends = "other"`` inherits
every value that the file does not state from ``other.toml`` in the same folder, or else from the
catalogue: the memory variants of a board differ in only a few values.
"""

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fieldtune.profiles.common.errors import ProfileError, did_you_mean
from fieldtune.profiles.common.files import readable
from fieldtune.profiles.common.toml import from_toml
from fieldtune.profiles.common.validation import dotted, first_error
from fieldtune.profiles.device.profile import RATES, DeviceProfile, value_fields
from fieldtune.profiles.device.value import ProfileValue

_CATALOGUE = Path(__file__).parent / "catalogue"


@lru_cache(maxsize=1)
def profile_names() -> list[str]:
    """Names of the catalogue's profiles, sorted."""
    return sorted(path.stem for path in _CATALOGUE.glob("*.toml"))


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """Load a profile by its name in the catalogue, or from a file.

    Args:
        name_or_path: a name such as ``raspberry-pi-4b``, or a path. A string that ends in
            ``.toml`` or contains a slash or backslash is treated as a path.

    Raises:
        ProfileError: unknown name, unreadable file, or an invalid value; the message names the
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
            "use a name from `fieldtune profiles list`, or the path of a .toml file"
        )
    return _read(_CATALOGUE / f"{name}.toml")


def _read(path: Path) -> DeviceProfile:
    table = _table(path, ())
    table.setdefault("name", path.stem)
    try:
        return DeviceProfile.model_validate(table)
    except ValidationError as error:
        said = first_error(error, DeviceProfile, special=_value_message, also_known=["extends"])
        raise ProfileError(f"{path}: {said}") from None


def _table(path: Path, extended_by: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file's tables, merged over those of the profile that it extends."""
    try:
        own = from_toml(readable(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not a TOML file: {error}") from None
    if "extends" not in own:
        return own
    base_name = own.pop("extends")
    base = _base(path, base_name)
    if base in (path, *extended_by):
        raise ProfileError(f"{path}: extends = {base_name!r} leads back to itself; break the cycle")
    # The name and title of the base are not inherited; a value's table is replaced as a whole.
    left = {"name", "title"}
    if own.keys() & {*RATES, "classes"}:
        # How true the base's predictions are says nothing about other rates.
        left.add("held_out")
    inherited = {k: v for k, v in _table(base, (path, *extended_by)).items() if k not in left}
    return inherited | own


def _base(path: Path, name: Any) -> Path:
    folders = (path.parent, _CATALOGUE)
    known = sorted({p.stem for folder in folders for p in folder.glob("*.toml")})
    for folder in folders:
        # Compared with existing names, so that no name can escape from the two folders.
        if name in known and (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    raise ProfileError(
        f"{path}: extends = {name!r} is neither in its folder nor in the catalogue"
        f"{did_you_mean(str(name), known)}"
    )


def _value_message(error: ErrorDetails) -> str | None:
    """A more specific message for errors in a profile value; None for pydantic's own."""
    key, kind, fields = dotted(error["loc"]), error["type"], value_fields()
    name, inside = str(error["loc"][0]), len(error["loc"]) > 1
    if kind == "missing" and name in fields:
        if not inside:
            return f"{key} is missing: state {fields[name].meaning}, in {fields[name].unit!r}"
        if error["loc"][-1] == "unit":
            return f"{key} is missing: state it in {fields[name].unit!r}"
    if kind == "profile_value":
        return f"{key}: {error['msg']}"
    if kind in ("model_type", "model_attributes_type"):
        keys = ", ".join(ProfileValue.model_fields)
        return f"{key} = {error['input']!r}: a value is a table with the keys {keys}"
    return None
