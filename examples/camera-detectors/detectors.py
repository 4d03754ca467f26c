"""The functions of app.toml: a camera, a detector of bright spots, a detector on crops, and what joins them."""

from collections.abc import Iterator

import numpy as np

HEIGHT, WIDTH = 240, 320
ZONE = 80
CELL = 8
ZONES = ((0, 0), (0, WIDTH - ZONE), (HEIGHT - ZONE, 0), (HEIGHT - ZONE, WIDTH - ZONE))
Box = tuple[int, int, int, int]


def camera() -> Iterator[np.ndarray]:
    """Grey frames with noise and two spots that wander; app.toml says how many a second."""
    random = np.random.default_rng(0)
    noise = [random.integers(0, 60, (HEIGHT, WIDTH), dtype=np.uint8) for _ in range(8)]
    number = 0
    while True:
        frame = noise[number % len(noise)].copy()
        for speed, size in ((3, 24), (5, 16)):
            top, left = (speed * number) % (HEIGHT - size), (2 * speed * number) % (WIDTH - size)
            frame[top : top + size, left : left + size] |= 0x80
        yield frame
        number += 1


def find_spots(frame: np.ndarray) -> list[Box]:
    """Boxes (top, left, bottom, right) around bright spots of the whole frame."""
    cells = frame.reshape(HEIGHT // CELL, CELL, WIDTH // CELL, CELL).mean(axis=(1, 3)) > 70
    left = {(int(row), int(column)) for row, column in np.argwhere(cells)}
    boxes = []
    while left:
        spot, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            spot.add((row, column))
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            left -= near
            edge += near
        rows, columns = zip(*spot, strict=True)
        boxes.append((min(rows) * CELL, min(columns) * CELL, (max(rows) + 1) * CELL, (max(columns) + 1) * CELL))
    return sorted(boxes)


def zones(frame: np.ndarray) -> Iterator[np.ndarray]:
    """The four corners of a frame: four items for each."""
    for top, left in ZONES:
        yield frame[top : top + ZONE, left : left + ZONE]


class Inspect:
    """How unusual crops are: one layer of filters, in NumPy."""

    def __init__(self) -> None:
        self.filters = np.random.default_rng(1).standard_normal((49, 24)).astype(np.float32)

    def __call__(self, crops: list[np.ndarray]) -> list[float]:
        windows = np.lib.stride_tricks.sliding_window_view(np.stack(crops), (7, 7), axis=(1, 2))[:, ::2, ::2]
        patches = windows.reshape(len(crops), -1, 49).astype(np.float32) / 255
        answers = np.maximum(patches @ self.filters, 0)
        return [float(score) for score in answers.mean(axis=1).max(axis=1)]


class Gather:
    """The scores of a frame's zones, together again: one item for each four."""

    def __init__(self) -> None:
        self.scores: list[float] = []

    def __call__(self, score: float) -> list[float] | None:
        self.scores.append(score)
        if len(self.scores) < len(ZONES):
            return None
        together, self.scores = self.scores, []
        return together


def combine(boxes: list[Box], scores: list[float]) -> dict[str, object]:
    """What both detectors say of one frame."""
    return {"spots": boxes, "zone": int(np.argmax(scores)), "score": max(scores)}


def alarm(event: dict[str, object]) -> None:
    """Where events would be sent on."""
