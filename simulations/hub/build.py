"""Builds the sampler as a package for OptunaHub: ``python simulations/hub/build.py FOLDER``.

``FOLDER/package/samplers/grey`` then holds the modules of ``fieldtune.server.bo``, importing each
other relatively, with README, licence, requirements, an example and tests: what the registry asks
of a package (https://hub.optuna.org).
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOM = HERE.parents[1] / "server/fieldtune/server/bo"


def build(folder: Path) -> Path:
    """Write the package below a folder, in place of what is there; returns where it is."""
    package = folder / "package/samplers/grey"
    shutil.rmtree(package, ignore_errors=True)
    (package / "tests").mkdir(parents=True)
    for module in sorted(ROOM.glob("*.py")):
        text = module.read_text()
        text = re.sub(r"from fieldtune\.server\.bo import (\w+) as", r"from . import \1 as", text)
        text = text.replace("fieldtune.server.bo.", ".")
        (package / module.name).write_text(text)
    shutil.copy(HERE / "README.md", package)
    shutil.copy(HERE / "example.py", package)
    shutil.copy(HERE / "test_sampler.py", package / "tests")
    shutil.copy(HERE.parents[1] / "LICENSE", package)
    (package / "requirements.txt").write_text("optuna>=5.0\nnumpy\nscipy\nmoocore\n")
    return package


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python simulations/hub/build.py FOLDER, such as a clone of the registry")
    print(build(Path(sys.argv[1])))  # noqa: T201
