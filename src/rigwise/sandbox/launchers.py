"""Files for launchers: torchrun, Accelerate, TensorFlow's strategies and Horovod."""

from __future__ import annotations

import json

from rigwise.facts.environments import tool
from rigwise.sandbox.launch import ON_EACH_NODE, broken, node_words, rank_lines, threads
from rigwise.sandbox.packages import accelerate_requirement, install_script
from rigwise.sandbox.setting import Setting, check_script, comments, explanation, quoted, requirements

_HERE = 'cd "$(dirname "$0")"\n[ ! -d .venv ] || export PATH="$PWD/.venv/bin:$PATH"\n'
#: Of our number formats, what Accelerate calls mixed precision.
_MIXED = {"amp-fp16": "fp16", "amp-bf16": "bf16", "bf16": "bf16", "fp16": "fp16"}
#: Of our number formats, the policies of Keras.
_KERAS = {"amp-fp16": "mixed_float16", "amp-bf16": "mixed_bfloat16", "bf16": "bfloat16", "fp16": "float16"}


def torchrun(setting: Setting) -> dict[str, str]:
    """``launch.sh``: one process for each GPU, on each node."""
    several = setting.place.nodes > 1
    notes = ["Start with: bash launch.sh"]
    if several:
        notes.append(ON_EACH_NODE)
    words = node_words(setting)
    script = (
        "#!/bin/bash\n" + explanation(setting, *notes) + "set -euo pipefail\n" + _HERE
        + rank_lines(setting) + threads(setting) + broken(["exec", *words])
    )  # fmt: skip
    return {"launch.sh": script, "install.sh": install_script(setting), "requirements.txt": requirements(setting),
            "check.py": check_script()}  # fmt: skip


def accelerate(setting: Setting) -> dict[str, str]:
    """``accelerate.yaml`` and ``launch.sh``: the division of the step that the plan chose, in Accelerate's words."""
    place, work = setting.place, setting.place.work
    processes = place.nodes * place.processes_per_node
    sharded = processes > 1 and work.zero >= 2
    kind = "NO" if processes == 1 else "FSDP" if sharded else "MULTI_GPU" if place.has_gpu else "MULTI_CPU"
    notes = ["Start with: bash launch.sh"]
    if work.zero == 1:
        notes.append(
            "The plan shards the optimizer state only (ZeRO 1), which Accelerate's file cannot say: it is DDP here."
        )
    if work.tensor * work.pipeline > 1:
        notes.append("The plan splits the model itself; Accelerate's file cannot say that, the script has to.")
    if kind == "MULTI_CPU":
        notes.append(
            "On CPUs accelerate launch starts several processes by MPI only, so torchrun starts them: Accelerate takes"
            " over what torchrun sets, and what else the file holds stands in launch.sh."
        )
    if sharded:
        notes.append("Layers are wrapped by size, which any model allows; TRANSFORMER_BASED_WRAP wraps by layer.")
    lines = [
        "compute_environment: LOCAL_MACHINE", f"distributed_type: {json.dumps(kind)}", f"num_machines: {place.nodes}",
        f"num_processes: {processes}", "machine_rank: 0", "main_training_function: main", "rdzv_backend: static",
        f"mixed_precision: {json.dumps(_MIXED.get(work.dtype, 'no'))}", f"use_cpu: {str(not place.has_gpu).lower()}",
    ]  # fmt: skip
    if sharded:
        resharded = str(work.zero == 3).lower()
        lines += [
            "fsdp_config:", "  fsdp_version: 2", f"  fsdp_reshard_after_forward: {resharded}",
            "  fsdp_auto_wrap_policy: SIZE_BASED_WRAP", "  fsdp_min_num_params: 1000000",
            "  fsdp_state_dict_type: SHARDED_STATE_DICT",
            f"  fsdp_activation_checkpointing: {str(work.recompute == 'full').lower()}",
        ]  # fmt: skip
    text = explanation(setting, *notes) + "".join(f"{line}\n" for line in lines)
    launch = (
        "#!/bin/bash\n" + comments(notes) + "set -euo pipefail\n" + _HERE
        + rank_lines(setting) + threads(setting) + broken(_accelerate_words(setting, kind))
    )  # fmt: skip
    install = install_script(setting) + f".venv/bin/python -m pip install '{accelerate_requirement()}'\n"
    return {"accelerate.yaml": text, "launch.sh": launch, "install.sh": install,
            "requirements.txt": requirements(setting), "check.py": check_script()}  # fmt: skip


def _accelerate_words(setting: Setting, kind: str) -> list[str]:
    """The job by accelerate launch; on several CPUs by torchrun, with the variables that accelerate launch sets."""
    if kind == "MULTI_CPU":
        mixed = _MIXED.get(setting.place.work.dtype, "no")
        variables = ["ACCELERATE_USE_CPU=true", f"ACCELERATE_MIXED_PRECISION={mixed}"]
        return ["exec", "env", *variables, *node_words(setting)]
    words = ["exec", "accelerate", "launch", "--config_file accelerate.yaml"]
    if setting.place.nodes > 1:
        words += ['--machine_rank "$NODE_RANK"', '--main_process_ip "$MASTER_ADDR"']
        words += ['--main_process_port "$MASTER_PORT"']
    rest = setting.words[1:] if setting.is_python else ("--no_python", *setting.words)
    return words + [quoted([word]) for word in rest]


def tensorflow(setting: Setting) -> dict[str, str]:
    """``strategy.py``, which a script imports, and ``launch.sh``, which gives each node its ``TF_CONFIG``."""
    several = setting.place.nodes > 1
    notes = ["Start with: bash launch.sh"]
    if several:
        notes.append(
            "Start it on every node, with HOSTS all nodes in one order and NODE_RANK this one's place, from 0 on."
        )
    tf_config = (
        ': "${HOSTS:?set it to the names of all nodes, divided by commas}"\n'
        ': "${NODE_RANK:?set it to the number of this node, from 0 on}"\n'
        'TF_CONFIG="$(python strategy.py "$HOSTS" "$NODE_RANK")"\nexport TF_CONFIG\n'
        if several
        else ""
    )
    launch = (
        "#!/bin/bash\n" + explanation(setting, *notes) + "set -euo pipefail\n" + _HERE + tf_config
        + broken(["exec", *(quoted([word]) for word in setting.words)])
    )  # fmt: skip
    return {"strategy.py": _strategy(setting), "launch.sh": launch, "install.sh": install_script(setting),
            "requirements.txt": requirements(setting), "check.py": check_script()}  # fmt: skip


def _strategy(setting: Setting) -> str:
    policy = _KERAS.get(setting.place.work.dtype, "float32")
    return f'''"""How a step is shared out: build the model within strategy().scope().

python strategy.py HOSTS RANK prints TF_CONFIG for one node of several.
"""

import json
import os
import sys

#: The plan's number format, as Keras calls it.
POLICY = "{policy}"
PORT = 12345


def strategy():
    """One GPU or CPU, all GPUs of one node, or all of several nodes, whichever is here."""
    import tensorflow as tf

    tf.keras.mixed_precision.set_global_policy(POLICY)
    workers = json.loads(os.environ.get("TF_CONFIG", "{{}}")).get("cluster", {{}}).get("worker", [])
    if len(workers) > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def tf_config(hosts, rank):
    """TF_CONFIG of the node with this number."""
    workers = [f"{{host}}:{{PORT}}" for host in hosts]
    if not 0 <= rank < len(workers):
        raise SystemExit(f"node {{rank}} is none of the {{len(workers)}} nodes, which count from 0")
    return json.dumps({{"cluster": {{"worker": workers}}, "task": {{"type": "worker", "index": rank}}}})


if __name__ == "__main__":
    print(tf_config(sys.argv[1].split(","), int(sys.argv[2])))
'''


def horovod(setting: Setting) -> dict[str, str]:
    """``launch.sh`` by horovodrun, and what compiles Horovod against the PyTorch that was resolved for it."""
    place = setting.place
    number, rule = tool("horovod").version, tool("horovod")
    notes = ["Start with: bash launch.sh", f"Horovod {number} is its newest release. [{rule.source}]"]
    with_gpu = "HOROVOD_GPU_OPERATIONS=NCCL " if place.has_gpu else ""
    needs = "cmake, a C++ compiler" + (", the CUDA toolkit and NCCL with their headers" if place.has_gpu else "")
    install = install_script(setting) + (
        comments([f"Horovod is compiled here, against this PyTorch: {needs} have to be there."])
        + ".venv/bin/python -m pip install wheel setuptools\n"
        + f"HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 {with_gpu}\\\n"
        + f"  .venv/bin/python -m pip install --no-build-isolation 'horovod=={number}'\n"
        + ".venv/bin/horovodrun --check-build\n"
    )
    words = [f"-np {place.nodes * place.processes_per_node}"]
    hosts = ""
    if place.nodes > 1:
        slots = place.processes_per_node
        hosts = f': "${{HOSTS:?set it to the nodes, as in node1:{slots},node2:{slots}}}"\n'
        words.append('-H "$HOSTS"')
    rest = [quoted([word]) for word in setting.words]
    launch = (
        "#!/bin/bash\n" + explanation(setting, *notes) + "set -euo pipefail\n" + _HERE + hosts + threads(setting)
        + broken(["exec", "horovodrun", "--gloo", *words, *rest])
    )  # fmt: skip
    return {"launch.sh": launch, "install.sh": install, "requirements.txt": requirements(setting),
            "check.py": check_script()}  # fmt: skip
