"""AsyncAPI's official parser, which npm fetches once into the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

VERSION = "3.6.3"
_SCRIPT = """
const { Parser } = require('@asyncapi/parser');
const text = require('fs').readFileSync(0, 'utf8');
new Parser().parse(text).then(({ document, diagnostics }) => {
  const operations = document ? document.operations().all() : [];
  console.log(JSON.stringify({
    diagnostics: diagnostics.map(({ code, message, path, severity }) => ({ code, message, path, severity })),
    operations: Object.fromEntries(operations.map((operation) => [operation.id(), {
      action: operation.action(),
      channels: operation.channels().all().map((channel) => channel.address()),
      payloads: operation.messages().all().map((message) => message.hasPayload()),
    }])),
  }));
});
"""


class Absent(Exception):  # a state of this machine, told as the reason of a skip
    """This machine has no parser, and no means to get it."""


def parsed(text: str) -> dict[str, Any]:
    """What the parser says of a document: what it complains of, and the operations that it has found."""
    folder = _folder()
    run = subprocess.run(["node", "-e", _SCRIPT], cwd=folder, input=text, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(run.stdout)
    return told


def _folder() -> Path:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Absent(f"no {program}, which runs AsyncAPI's parser (Debian: apt install nodejs npm)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torpor"
    folder = cache / f"asyncapi-parser-{VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as making:
            _install(Path(making))
            try:
                (Path(making) / "parser").rename(folder)
            except OSError:
                if not folder.exists():  # another process was quicker
                    raise
    return folder


def _install(making: Path) -> None:
    folder = making / "parser"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"name": "torpor-asyncapi-parser", "private": True}))
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    run = subprocess.run(
        ["npm", "install", *options, f"@asyncapi/parser@{VERSION}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise Absent(f"no AsyncAPI parser: npm cannot fetch it: {run.stdout[-500:]}{run.stderr[-500:]}")
