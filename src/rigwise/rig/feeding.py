"""Rules of what the cards ask of the rest: memory for the model, a CPU and a disk that keep up with them."""

from __future__ import annotations

from rigwise.rig.figures import figures, source, value
from rigwise.rig.judged import Given, Judge, Rule, in_full, known_sum
from rigwise.rig.types import Drive, Feed, Finding, Processor, Rig
from rigwise.units import format_bytes, format_count


def cpu_samples_per_s(cpu: Processor, feed: Feed) -> float | None:
    """Samples that all cores decode in a second; None where a figure is missing.

    In proportion to cores, to instructions in a cycle and to bytes; the clock is taken to be that
    of the measured server, so a desktop does somewhat more. Efficiency cores count as whole ones.

    Source: Iglovikov & Kosarevsky, arXiv 2605.08731, for one core.
    """
    if cpu.cores is None:
        return None
    if feed.decode_per_core_per_s is not None:
        return cpu.cores * feed.decode_per_core_per_s
    if feed.decode != "jpeg" or cpu.ipc_frac is None:
        return None
    larger = max((feed.bytes_per_sample or 0) / value("decode-bytes"), 1.0)
    return cpu.cores * value("decode-jpeg") * cpu.ipc_frac / value("decode-ipc") / larger


def disk_samples_per_s(drive: Drive, feed: Feed) -> float | None:
    """Samples that a disk delivers in a second, in sequence or by random reads; None where not known.

    Source: the definition of a rate; a file that is read at random costs one seek at least.
    """
    if feed.bytes_per_sample is None or drive.read_bytes_per_s is None:
        return None
    in_sequence = drive.read_bytes_per_s / feed.bytes_per_sample
    if feed.access == "files" and drive.random_reads_per_s is not None:
        return min(in_sequence, drive.random_reads_per_s)
    return in_sequence


def _model_fits(rig: Rig, given: Given) -> Finding | None:
    if given.demand is None:
        return None
    judge = Judge("model-fits", ("rigwise predict: peak memory of the job on this card",))
    demand = given.demand
    evidence = {"fit_probability": demand.fit_probability}
    said = f"{demand.model} fits in the cards' memory with probability {demand.fit_probability:.0%}"
    if demand.samples_per_s is None or demand.fit_probability < 0.5:
        return judge.problem(said, "a card with more memory, or a smaller batch", **evidence)
    if demand.fit_probability < 0.9:
        return judge.warning(said, "a card with more memory, or a smaller batch", **evidence)
    return judge.ok(f"{said}: {format_count(demand.samples_per_s)} samples/s", **evidence)


def _cpu_feeds(rig: Rig, given: Given) -> Finding | None:
    cpu, feed = rig.cpu[0], rig.feed
    if given.demand is None or given.demand.samples_per_s is None:
        return _cores(rig, cpu)
    measured = feed.decode_per_core_per_s is not None
    judge = Judge(
        "cpu-feeds-cards", ("the list's own measurement",) if measured else source("decode-jpeg", "decode-share")
    )
    wanted = given.demand.samples_per_s
    if not (measured or feed.decode):
        fix = 'give [input] in the parts list: decode = "jpeg", or decode_per_core_per_s as measured'
        return judge.unknown(f"the cards take {format_count(wanted)} samples/s; what a sample costs is not known", fix)
    have = cpu_samples_per_s(cpu, feed)
    if have is None:
        return judge.unknown(f"what {cpu.name} decodes is not known", "measure it: decode_per_core_per_s in [input]")
    usable = have if measured else have * value("decode-share")
    evidence = {"needed_per_s": wanted, "decoded_per_s": have, "usable_per_s": usable}
    said = f"the cards take {format_count(wanted)} samples/s, {cpu.cores} cores decode {format_count(have)}"
    fix = "more cores, decoding on the card, or samples that are stored decoded"
    if have < wanted:
        return judge.problem(f"{said}: the cards wait {1 - have / wanted:.0%} of the time", fix, **evidence)
    if usable < wanted:
        return judge.warning(f"{said}, and crops and flips come on top", fix, **evidence)
    return judge.ok(said, **evidence)


def _cores(rig: Rig, cpu: Processor) -> Finding:
    """Without a job: cores for each card."""
    judge = Judge("cpu-feeds-cards", source("least-cores"))
    if cpu.cores is None:
        return judge.unknown(f"the cores of {cpu.name} are not known", "give cores of the cpu in the list")
    least = value("least-cores") * len(rig.gpu)
    evidence = {"cores": cpu.cores, "least_cores": least}
    said = f"{cpu.cores} cores for {len(rig.gpu)} card{'s' if len(rig.gpu) > 1 else ''}"
    if cpu.cores < least:
        return judge.warning(said, f"{least:.0f} cores or more; --job and [input] tell exactly", **evidence)
    return judge.ok(f"{said}; --job and [input] tell more", **evidence)


def _instructions(rig: Rig, given: Given) -> Finding:
    cpu = rig.cpu[0]
    judge = Judge("cpu-instructions", in_full(["founding-notes the Pentium G4600 of the home box"]))
    if cpu.isa is None:
        return judge.unknown(f"the instructions of {cpu.name} are not known", "look for avx2 in /proc/cpuinfo")
    if not {"avx2", "neon"} & set(cpu.isa):
        return judge.warning(f"{cpu.name} lacks AVX2, which builds of many libraries need", "another CPU")
    return judge.ok("AVX2 is there" if "avx2" in cpu.isa else "NEON is there")


def _disk_feeds(rig: Rig, given: Given) -> Finding | None:
    if given.demand is None or given.demand.samples_per_s is None or rig.feed.bytes_per_sample is None:
        return None
    wanted, feed = given.demand.samples_per_s, rig.feed
    rows = [figures().drives[d.form] for d in rig.storage if d.form in figures().drives]
    judge = Judge("disk-feeds-cards", in_full(dict.fromkeys(text for row in rows for text in row.source)))
    rates = [rate for drive in rig.storage if (rate := disk_samples_per_s(drive, feed)) is not None]
    if not rates:
        return judge.unknown("what the disk reads is not known", "give read_rate of the storage, 3.5GB say")
    have, drive = max(rates), rig.storage[0]
    needed = wanted * (feed.bytes_per_sample or 0)
    evidence = {"needed_per_s": wanted, "delivered_per_s": have, "needed_bytes_per_s": needed}
    said = f"the cards take {format_bytes(needed)}/s, the disk gives {format_count(have)} samples/s"
    if have < wanted:
        packed = "pack the files into records and read them in sequence, or " if feed.access == "files" else ""
        return judge.problem(said, f"{packed}take a faster disk, or keep the data in memory", **evidence)
    if feed.access == "files" and drive.random_reads_per_s is None:
        return judge.unknown(f"{said} in sequence; random reads are not known", "give random_reads", **evidence)
    if drive.is_ceiling and have < 2 * wanted:
        return judge.unknown(f"{said} at the most its link carries", "give read_rate of the storage", **evidence)
    return judge.ok(said, **evidence)


def _disk_kind(rig: Rig, given: Given) -> Finding:
    judge = Judge("disk-kind", in_full(["founding-notes disk: ImageNet by random reads, 677 hours or 6.7"]))
    if all(drive.form == "HDD" for drive in rig.storage):
        found = "only a hard disk: 110 random reads a second"
        return judge.warning(found, "add a solid-state disk for the system and what is being read")
    return judge.ok("a solid-state disk is there")


def _disk_size(rig: Rig, given: Given) -> Finding | None:
    if rig.feed.dataset_bytes is None:
        return None
    judge = Judge("disk-size", ("the list's own dataset",))
    have, wanted = known_sum(drive.capacity_bytes for drive in rig.storage), rig.feed.dataset_bytes
    if have is None:
        return judge.unknown("the capacity of the storage is not known", "give capacity in the list")
    said = f"{format_bytes(have)} of storage for {format_bytes(wanted)} of data"
    evidence = {"capacity_bytes": have, "dataset_bytes": wanted}
    return judge.problem(said, "a larger disk", **evidence) if have < wanted else judge.ok(said, **evidence)


RULES = (
    Rule(name="model-fits", scope=frozenset({"gpu"}), judge=_model_fits),
    Rule(name="cpu-feeds-cards", scope=frozenset({"gpu", "cpu"}), judge=_cpu_feeds),
    Rule(name="cpu-instructions", scope=frozenset({"cpu"}), judge=_instructions),
    Rule(name="disk-feeds-cards", scope=frozenset({"gpu", "storage"}), judge=_disk_feeds),
    Rule(name="disk-kind", scope=frozenset({"storage"}), judge=_disk_kind),
    Rule(name="disk-size", scope=frozenset({"storage"}), judge=_disk_size),
)
