"""Contact sheets of training pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image


def write_contact_sheet(pictures: torch.Tensor, path: Path, columns: int) -> None:
    """Write pictures in [0, 1], shape ``(N, 3, H, W)``, row by row into one PNG; the last row is padded with black."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = pictures.new_zeros(rows * columns, 3, height, width)
    sheet[:count] = pictures.float().clamp(0, 1)
    sheet = sheet.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet * 255).byte().cpu().numpy()).save(path)
