"""Texts that are shown or written: which characters a name may hold, and how others are spelt out.

Names out of manifests and result files reach terminals, XML (`.qml`, `.aux.xml`), HTML and the
tags of rasters. What one of these cannot hold, or takes for a command, no name may hold.
"""

from __future__ import annotations

import re

LONGEST = 256
"""Characters of a name at most."""

_CONTROLS = r"\x00-\x1f\x7f-\x9f"
_BREAKS = r"\u2028\u2029"
_TURNS = r"\u202a-\u202e\u2066-\u2069"
"""What makes terminals and browsers show a line in another order than it is in."""
_SURROGATES = r"\ud800-\udfff"
_NONCHARACTERS = r"\ufdd0-\ufdef" + "".join(
    rf"\U{plane:04x}fffe\U{plane:04x}ffff" for plane in range(17)
)
"""Unicode keeps them for no character; XML 1.0 forbids two of them, and the surrogates."""
_UNSHOWN = re.compile(f"[{_CONTROLS}{_BREAKS}{_TURNS}{_SURROGATES}{_NONCHARACTERS}]")


def is_shown(text: str) -> bool:
    """Return whether every character of a text can be shown and written, all in one line."""
    return _UNSHOWN.search(text) is None


def is_name(value: object) -> bool:
    """Return whether a value can be a name: a text to be seen, of LONGEST characters at most."""
    return (
        isinstance(value, str) and bool(value.strip()) and len(value) <= LONGEST and is_shown(value)
    )


def shown(text: str) -> str:
    r"""Return a text with what cannot be shown spelt out, as in `\x1b` or `\ud800`."""
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)
