# OpenUSD's compiled modules carry no types: whatever is imported from them is Any, and our own names stay checked.
from typing import Any

def __getattr__(name: str) -> Any: ...
