"""llm-foundry's ``scripts/train/benchmarking/README.md``: tables of MPT pretraining under FSDP, one for each cluster."""

from __future__ import annotations

import re

from measured.row import Row, number

_DEVICES = {"a100_80gb": ("A100", "SXM4 80GB"), "a100_40gb": ("A100", "SXM4 40GB"), "h100_80gb": ("H100", "SXM5 80GB")}


def rows_of(path: str, text: str) -> list[Row]:
    """The rows of all tables; a heading above a table names the cluster.

    Raises:
        ValueError: A table lacks a column, or names an unknown device.
    """
    rows: list[Row] = []
    cluster, columns = "", []
    for line in text.splitlines():
        if line.startswith("#"):
            cluster, columns = line.strip("# "), []
        elif line.lstrip().startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not columns:
                columns = cells
            elif not set("".join(cells)) <= set("-: "):
                rows.append(_row(path, cluster, dict(zip(columns, cells, strict=False))))
    return rows


def _row(path: str, cluster: str, cells: Row) -> Row:
    try:
        device, variant = _DEVICES[cells["GPU"]]
        pure = cells["MP Mode"] == "PURE"
        pairs = {
            "MFU": cells["MFU"],
            "HFU": cells["HFU"],
            "microbatch": cells["MicroBatchSize"],
            "gradaccum": cells["GradAccum"],
            "shard": cells["Sharding Strategy"],
            "mp": cells["MP Mode"],
            "act_ckpt": cells["Activation Checkpointing"],
            "n_params": cells["NumParams"],
        }
        return {
            "source": "llm-foundry",
            "device": device,
            "device_variant": variant,
            "count": cells["# GPUs"],
            "model": f"mpt-{cells['Model']}",
            "task": "train",
            "precision": re.sub("^amp_", "", cells["Precision"]) if pure else cells["Precision"],
            "layout": "",
            "batch": cells["GlobalBatchSize"],
            "input_shape_or_seq": cells["SeqLen (T)"],
            "framework": f"llm-foundry/Composer FSDP, flash attention ({cluster})",
            "metric": "tokens_per_s",
            "value": number(float(cells["Throughput (T/s)"])),
            "notes": "total over GPUs; " + "; ".join(f"{key}={value}" for key, value in pairs.items()),
        }
    except KeyError as error:
        raise ValueError(f"{path}: a table of {cluster!r} lacks {error}") from None
