"""Capture the templates of the model families anew: ``python tools/build_families.py [--keys] [FAMILY...]``.

Needs PyTorch and transformers; no GPU, no network and no weights. Each variant of a family is captured
at several sizes, and every number in which the captures differ is explained by the sizes of their
configurations (``families/solve.py``). Equal versions give equal files. With ``--keys`` nothing is captured:
only what is known of the keys is written again.
"""

from __future__ import annotations

import gzip
import inspect
import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}

import transformers
from transformers import cache_utils, configuration_utils, masking_utils, modeling_rope_utils, modeling_utils

from families.merge import Family
from families.specs import CANDIDATES, SPECS
from rigwise.errors import near_matches
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.hf_config import needed_sizes, subject, usual_class
from rigwise.graph.families.config import Known
from rigwise.graph.families.resolve import read_config, read_family, variant_name

logging.disable(logging.CRITICAL)

TEMPLATES = Path(__file__).parents[1] / "src" / "rigwise" / "graph" / "families" / "templates"


def known_keys(model_type: str) -> Known:
    """What transformers says of the keys of a family."""
    config_class = transformers.CONFIG_MAPPING[model_type]
    return Known(
        unread=unread_keys(model_type, config_class),
        defaults=defaults_of(config_class),
        aliases=dict(config_class.attribute_map),
        needed=tuple(needed_sizes(config_class)),
        usual_head=usual_class(model_type).__name__,
    )


def defaults_of(config_class: Any) -> dict[str, Any]:
    """Defaults as the class writes them, before it derives some from others; nested ones too."""
    found = {}
    for field in fields(config_class):
        value = field.default if field.default is not MISSING else None
        if field.default_factory is not MISSING:
            value = field.default_factory()
        found[field.name] = value
    for name, nested in (config_class.sub_configs or {}).items():
        found[name] = defaults_of(nested)
    rope = getattr(config_class(), "rope_parameters", None) or {}
    if "partial_rotary_factor" in rope:
        found["partial_rotary_factor"] = rope["partial_rotary_factor"]
    return {key: value for key, value in found.items() if _is_plain(value)}


def unread_keys(model_type: str, config_class: Any) -> tuple[str, ...]:
    """Keys of published configurations that stand nowhere in the code that builds and runs this family."""
    own = Path(inspect.getfile(config_class))
    files = [own, *own.parent.glob("modeling_*.py")]
    words = {word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}
    for module in (modeling_utils, modeling_rope_utils, masking_utils, configuration_utils, cache_utils):
        words |= set(_READS.findall(inspect.getsource(module)))
    return tuple(key for key in CANDIDATES if key not in words)


#: How shared code reads a key.
_READS = re.compile(r"(?:config|self)\w*(?:\.|, ?[\"'])(\w+)")


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def changed(sizes: Mapping[str, Any], change: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A configuration with a variant put on top; a tuple has a value for each capture."""
    config = dict(sizes)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            config[key] = changed(config[key], value, index)
        else:
            config[key] = value[index] if isinstance(value, tuple) else value
    return config


def build(model_type: str) -> dict[str, Any]:
    """The template file of one family, as plain objects."""
    known, spec, family = known_keys(model_type), SPECS[model_type], Family()
    versions: dict[str, str] = {}
    for change in spec.variants:
        models, samples, names = [], [], set()
        for index, sizes in enumerate(spec.sizes):
            config = changed(sizes, change, index)
            head, marks, numbers = read_config(config, known, model_type)
            names.add(variant_name(head, marks))
            samples.append(numbers)
            with fake_tensors():
                models.append(capture(subject(config, name="model", where="config.json")))
            versions = dict(models[-1].captured_with)
        if len(names) > 1:
            sys.exit(f"{model_type}: {change} is several variants: {names}")
        constant = {k for k, v in samples[0].items() if v and k not in marks and len({s[k] for s in samples}) == 1}
        if constant:
            sys.exit(f"{model_type}: {change} never varies {constant}, so no formula could follow them")
        (name,) = names
        if name in family.variants:
            sys.exit(f"{model_type}: {name} is captured twice")
        family.add(name, models, samples)
        notes = family.variants[name]["card"]["assumed"]
        print(f"    {name}: {notes} { ({t: len(g['rows']) for t, g in family.variants[name]['graphs'].items()}) }")
    return {**asdict(known), "captured_with": versions, **family.document()}


def renewed(model_type: str) -> dict[str, Any]:
    """The template file of one family as it is, but for what is known of the keys."""
    return {**read_family(model_type), **asdict(known_keys(model_type))}


def main() -> None:
    keys_only = "--keys" in sys.argv
    wanted = [name for name in sys.argv[1:] if name != "--keys"] or list(SPECS)
    for name in wanted:
        if name not in SPECS:
            sys.exit(f"there is no family {name!r}; {near_matches(name, SPECS)}")
    TEMPLATES.mkdir(exist_ok=True)
    for name in wanted:
        start = time.process_time()
        text = json.dumps(renewed(name) if keys_only else build(name), separators=(",", ":"), sort_keys=True)
        path = TEMPLATES / f"{name}.json.gz"
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        print(f"{name:14} {len(text):9,} B {path.stat().st_size:8,} B packed {time.process_time() - start:6.1f} s")


if __name__ == "__main__":
    main()
