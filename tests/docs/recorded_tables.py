"""Tables of the documentation, from the tables of a recorded study, as lines of Markdown."""

from dataclasses import astuple

from rdp.claims import verdict_json
from rdp.report import claims_view, summary
from rdp.report.formatting import DASH, number
from rdp.stats import Estimate, paired_difference
from rdp.study.comparisons import Setting
from rdp.tables import Tables

# Settings of rdp_map by dataset, architecture and recipe, as docs/loop.md names them; the recipe names the epochs.
SMALL = "5,000 images of CIFAR-10 at 16 x 16 pixels"
MAP = {
    ("digits", "resnet20", "epochs 12"): "ResNet-20, digits (719 images), 12",
    ("digits", "resnet20", "epochs 48"): "ResNet-20, digits, 48",
    ("digits", "resnet20", "epochs 192"): "ResNet-20, digits, 192",
    ("digits", "resnet56", "epochs 12"): "ResNet-56, digits, 12",
    ("digits", "resnet56", "epochs 48"): "ResNet-56, digits, 48",
    ("cifar10_16", "resnet20", "epochs 50, crop_padding 0, flip False"): f"ResNet-20, {SMALL}, 50",
    ("cifar10_16", "resnet20", "epochs 100, crop_padding 0, flip False"): f"ResNet-20, {SMALL}, 100",
    ("cifar10_16", "resnet20", "epochs 50, crop_padding 2, flip True"): f"ResNet-20, {SMALL}, crops and flips, 50",
    ("cifar10_16", "resnet56", ""): f"ResNet-56, {SMALL}, 50",
}

# The networks of pnnh_screen, as docs/pnnh.md names them.
SCREEN = {
    "window_bottleneck_after": "`window`, the default",
    "window_bottleneck": "`window`, `preactivation=True`",
    "window_after": '`window`, `learner="two"`',
    "window_one": '`window`, `learner="one"`, `preactivation=True`',
    "window_input": '`window`, `learner="two"`, `preactivation=True`, `input_share=0.25`',
    "window_permutation": '`window`, `learner="two"`, `preactivation=True`, `start="permutation"`',
    "window": '`window`, `learner="two"`, `preactivation=True`',
    "vanilla": "residual",
    "window_of_16": '`window`, `learner="two"`, `preactivation=True`, `learner_width=1/16`',
    "window_trained": '`window`, `learner="two"`, `preactivation=True`, `trained=True`',
    "same_parameters": "residual, narrowed",
    "concat": "`concat`",
    "sum": "`sum`",
    "two_sided": "`two_sided`",
    "strict": "`strict`",
    "plain": "plain",
}


def differences(made: Tables, setting: Setting) -> dict[str, Estimate]:
    """The difference of each method to vanilla in a setting, in points of test accuracy."""
    cells = [cell for cell in summary.cells(made.plan, made.records) if cell.setting == setting]
    return {cell.method: cell.difference for cell in cells if cell.difference}


def points(estimate: Estimate) -> str:
    """``+4.1 [+2.9, +5.3]``."""
    mean, low, high = (number(value, "{:+z.1f}") for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"


def plain(estimate: Estimate, unit: str = "") -> str:
    """``4.1 points [2.9, 5.3]``."""
    low, high = (number(value, "{:.1f}") for value in (estimate.low, estimate.high))
    return f"{number(estimate.mean, '{:.1f}')}{unit} [{low}, {high}]"


def header(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def accuracies(made: Tables) -> list[str]:
    """Accuracy and cost of each method that has runs; of an unfinished cell, over its runs so far."""
    lines = header(
        "method", "test accuracy (%)", "minus vanilla", "training accuracy (%)", "training FLOP", "parameters", "seeds"
    )
    panels = dict(made.panels(made.records))
    for cell in summary.cells(made.plan, made.records):
        if not cell.accuracy.n:
            continue
        runs = panels[cell.setting]
        runs = runs[(runs["method"] == cell.method) & runs["accuracy"].notna()]
        fit, accuracy = runs["train_accuracy"].mean() * 100, plain(cell.accuracy)
        against = points(cell.difference) if cell.difference else DASH
        cost = f"{cell.flops:.2f} | {cell.parameters:,.0f} | {cell.accuracy.n} of {cell.seeds}"
        lines.append(f"| {cell.method} | {accuracy} | {against} | {fit:.1f} | {cost} |")
    return lines


def verdicts(made: Tables) -> list[str]:
    """The verdict on each claim that the study tests, with its evidence."""
    content = verdict_json.read(made.plan.name, made.results)
    claims = [
        claim for group in claims_view.groups(content, {}, []) for claim in group["claims"] if not claim["untested"]
    ]
    rows = [(claim, claim["verdicts"][claim["evidence"]["kind"]]["verdict"]) for claim in claims]
    lines = [f"| {claim['name']} | {claim['title']} | {word} | {claim['evidence']['line']} |" for claim, word in rows]
    return [*header("claim", "", "verdict", "evidence"), *lines]


def gains(made: Tables) -> list[str]:
    """What droppath and ResidualDroppath gain at rate 0.5 in each setting of rdp_map."""
    lines = header(
        "network, data, epochs",
        "vanilla: training, test accuracy (%)",
        "droppath minus vanilla",
        "ResidualDroppath minus vanilla, equal steps",
        "the same, equal updates",
        "ResidualDroppath minus droppath, equal steps",
    )
    for setting, runs in made.panels(made.records):
        vanilla, droppath, residual = (runs[runs["method"] == name] for name in ("vanilla", "droppath_5", "rdp_5"))
        trained, tested = (vanilla[name].mean() * 100 for name in ("train_accuracy", "accuracy"))
        over_vanilla = differences(made, setting)
        cells = [
            points(over_vanilla[name]) if name in over_vanilla else DASH
            for name in ("droppath_5", "rdp_5", "rdp_5_updates")
        ]
        cells.append(points(paired_difference(summary.by_seed(residual), summary.by_seed(droppath))))
        lines.append(f"| {MAP[astuple(setting)]} | {trained:.0f}, {tested:.1f} | {' | '.join(cells)} |")
    return lines


def blocks(made: Tables) -> list[str]:
    """Cost and validation accuracy of each network of pnnh_screen, the best first."""
    seeds = ", ".join(map(str, made.plan.study.seed_list()))
    accuracy = f"validation accuracy of seeds {seeds} (%)"
    lines = header("network", "parameters", "memory", "throughput", accuracy, "mean")
    speed = made.speed().set_index("method")["median"]
    reference = made.records[made.records["method"] == "vanilla"].iloc[0]
    means = made.records.groupby("method")["validation_accuracy"].mean().sort_values(ascending=False)
    for method, mean in means.items():
        runs = made.records[made.records["method"] == method].sort_values("seed")
        size, memory = (runs[name].iloc[0] / reference[name] for name in ("parameters", "activation_bytes"))
        values = ", ".join(f"{value * 100:.1f}" for value in runs["validation_accuracy"])
        costs = f"{size:.2f} | {memory:.2f} | {speed[method]:.2f}"
        lines.append(f"| {SCREEN[str(method)]} | {costs} | {values} | {mean * 100:.1f} |")
    return lines


TABLES = {"accuracy": accuracies, "claims": verdicts, "gains": gains, "blocks": blocks}
