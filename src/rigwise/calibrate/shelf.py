"""The captured networks that measured rows can be asked about."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from rigwise.calibrate.question import stated_parameters
from rigwise.errors import InvalidInputError, UnknownNameError
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model, zoo_names
from rigwise.measurement.measurement import Measurement

#: Two networks of one name whose parameters differ by more than this are different networks.
_PARAMETERS_FRAC = 0.01


class Shelf:
    """Networks by the name that tables use: a folder of captured graphs, the zoo, and timm."""

    def __init__(self, graphs: Path | None = None, *, capture: bool = False) -> None:
        """Look into a folder of ``NAME.rwg`` files.

        Args:
            graphs: The folder, None for none.
            capture: Whether networks of timm that are nowhere else are captured, which takes minutes each.

        Raises:
            InvalidInputError: The folder does not exist, or holds no graph.
        """
        self.graphs = graphs
        self.capture = capture
        self.names: frozenset[str] = frozenset()
        if graphs is not None:
            if not graphs.is_dir():
                raise InvalidInputError(f"there is no folder {graphs}")
            self.names = frozenset(file.stem for file in graphs.glob("*.rwg"))
            if not self.names:
                raise InvalidInputError(f"the folder {graphs} holds no .rwg file", hint="rigwise capture writes them")
        self._load = lru_cache(maxsize=2)(self._read)

    def model(self, word: str) -> Model:
        """The network that ``Question.case.model`` names; rows sorted by it load each once.

        Raises:
            UnknownNameError: It is not at hand.
            RigwiseError: Its file cannot be read, or timm cannot build it.
        """
        return self._load(word)

    def _read(self, word: str) -> Model:
        if word in self.names and self.graphs is not None:
            return load_model(str(self.graphs / f"{word}.rwg"))
        if word in zoo_names():
            return load_model(word)
        from rigwise.calibrate.names import zoo_name

        plain = word.removeprefix("timm:")
        if twin := zoo_name(plain):
            return load_model(twin)
        if not self.capture:
            raise UnknownNameError(f"timm's {plain} is not captured", hint="--graphs DIR or --capture brings it")
        return load_model(word)


def check_same_network(m: Measurement, model: Model) -> None:
    """Refuse a graph that is another network under the name of the row's.

    Raises:
        InvalidInputError: Their parameters differ by over 1 %.
    """
    stated = stated_parameters(m)
    if stated is None:
        return
    parameters, rounding = stated
    if abs(model.parameter_count - parameters) > max(_PARAMETERS_FRAC * parameters, rounding):
        raise InvalidInputError(
            f"another network of this name: {parameters / 1e6:.2f} M parameters in the row's {m.model[:60]},"
            f" {model.parameter_count / 1e6:.2f} M in the graph"
        )
