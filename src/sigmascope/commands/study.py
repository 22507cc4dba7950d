"""What each command takes, and what its help says.  Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from sigmascope.data.loaders import data_words


def shown(metavar: str, hint: str = "", help: str | None = None) -> Any:
    """An argument whose empty default is not worth showing."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint, help=help)


@dataclass(frozen=True)
class StudyCommand:
    """At which noise level is each attribute of a data set decided?

    Computes, exactly, the information (in nats) that an image under Gaussian noise of level sigma carries about
    each of its attributes, for a range of sigma, and when each attribute emerges as noise falls. The folder
    named by --out receives report.html (open it in a browser), figures/, onset.csv, results.nc (an xarray
    Dataset) and spec.toml.

    Interrupted? Run the same command again: it goes on where it stopped.

    Try it: sigmascope study scenes --out studies/scenes

    A learned model: sigmascope study scenes --model bundled --out studies/bundled

    Your data: sigmascope study my-images.npz --abstractions digit,slant:bins=8 --out studies/mine
    """

    # Annotations are read when a command line is parsed: loaders that were registered until then are described.
    data: Annotated[str, tyro.conf.Positional, shown("DATA", help=f"What to study: {data_words()}.")] = ""
    out: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder for the results: new, empty, or that of the same study."""
    spec: Annotated[str, shown("FILE")] = ""
    """A spec.toml that a study has written: repeat that study, to the same numbers. Options beside it override it."""
    abstractions: Annotated[str, shown("A,B", "(default: all)")] = ""
    """Attributes to study, separated by commas. A real-valued one is cut into quantile bins with name:bins=8;
    shape+scale is the joint value of two (not of a hierarchy), and gives the information of each given the other."""
    draws: int = 256
    """Noisy images drawn. Standard errors fall with its square root, time grows in proportion."""
    levels: int = 40
    """Noise levels between --sigma-max and --sigma-min, evenly spaced in ln sigma."""
    sigma_min: float = 0.01
    """Last noise level, in the unit of the data (8-bit pixels: of the full range, black to white)."""
    sigma_max: float = 90.0
    """First noise level."""
    seed: int = 0
    """Seed of the draws: the same seed gives the same numbers."""
    size: int = 32
    """Side of the scenes in pixels: 16, 32 or 64."""
    grain: tyro.conf.FlagCreatePairsOff[bool] = False
    """Give the floor of the scenes a fine texture, one more attribute of four values: 1,920,000 images."""
    ground: Annotated[str, shown("COLOUR", "(default: white)")] = "white"
    """What transparent pixels of pictures are laid on: white, black or #rrggbb."""
    law: Annotated[str, tyro.conf.arg(metavar="LAW")] = "empirical"
    """Whose information: empirical (of exactly these items; exact), or heldout (of the population that they come
    from; lower bounds, by items held out and a filter made of the rest; for natural images)."""
    estimators: Annotated[
        str, shown("A,B", "(default: posterior,score_gap; of a model score_gap,mmse_gap,filter,classifier)")
    ] = ""
    """Ways to measure: posterior (always), score_gap, mmse_gap, filter, forks. They must agree; the page shows how well
    they do. (filter is a lower bound, and the slowest by far.) Of --law heldout: heldout, and no
    other. Of a model: score_gap and mmse_gap (estimates that the network's error can bias), filter, likelihood and
    classifier (lower bounds whatever its error), probes (linear ones, on noisy values and on the network's features:
    lower bounds too), posterior (the exact filter of the data, to compare with), and own_path (the same information
    along the model's own path, the states that its generation visits)."""
    forks: Annotated[int, shown("K", "(default: 64; of a pipeline 16)")] = 0
    """Children of each draw, for the estimator forks: at least as many as the attribute has values."""
    pairs: tyro.conf.FlagCreatePairsOff[bool] = False
    """Study every pair of attributes too: what the noisy image tells of both twice, and what only together. Takes
    another pass over the data."""
    model: Annotated[str, shown("FOLDER", "(default: the exact filter)")] = ""
    """Measure a learned model in place of the exact filter: a folder of sigmascope train, or 'bundled', the model of
    the scenes that comes with the package. It is measured on items kept out of its training. diffusers:FOLDER is a
    pipeline of diffusers, hub:OWNER/NAME one that is fetched from the hub: one that can be told classes is measured on
    labelled data whose attribute is its class; any other by forks, whose images are labelled, and by probes."""
    labeller: Annotated[str, shown("MODULE:FUNCTION", "(default: the nearest other item)")] = ""
    """Of a pipeline's forks, in place of the nearest item of the data but their parent's own and near copies of it:
    your function that labels images, from a tensor of pixels between 0 and 1, shape (rows, channels, height, width), to
    one index of a value per row (or a dict of such by attribute). With it the data may be
    the word 'generated': images that the pipeline makes itself."""
    steps: Annotated[int, shown("N", "(default: 20)")] = 0
    """Of a pipeline's forks: steps of the sampler, of two calls each, from --sigma-max down."""
    null_class: Annotated[int, shown("INDEX")] = -1
    """Of a class-conditional pipeline: the index of the class that stands for none, where it does not say it itself.
    Without such a class, what it says untold is the mixture over its classes, by its own likelihood."""
    classes: Annotated[str, shown("FILE", "(default: the names that the pipeline gives)")] = ""
    """Of a class-conditional pipeline: the names of its classes, by which values of the attribute are matched to them:
    a file with one name a line, in their order, or JSON (a list, or an object as id2label); or the word 'by-order', if
    the values of the attribute are in the order of the classes."""
    allow_pickle: tyro.conf.FlagCreatePairsOff[bool] = False
    """Read a pipeline's weights from pickles, too, which can run any code: if you trust where they are from."""
    variant: Annotated[str, shown("NAME", "(default: the plain ones)")] = ""
    """Of a pipeline: which of its weights to read, e.g. fp16."""
    target_stderr: Annotated[float, shown("NATS", "(default: 0.02)")] = 0.0
    """Of a model: make as many network calls as bring the standard error of its score gaps down to this."""
    budget: Annotated[int, shown("CALLS", "(default: by --target-stderr)")] = 0
    """Of a model: make so many network calls for its gaps, where they tell most."""
    like: Annotated[str, shown("STUDY")] = ""
    """Of a model: measure its gaps on the same draws as this earlier study of another model, for sigmascope compare."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """Where to compute: auto (a CUDA GPU where there is one), cpu, cuda."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved specification and the predicted work and memory, and stop."""


@dataclass(frozen=True)
class TrainCommand:
    """Train a denoiser that can be told any subset of the attributes.

    One network learns E[V | Y_sigma = y, what is known] for nothing known, for each attribute, and for any of them
    together; a spare attribute of random labels is trained along, as a null. The folder named by --out receives
    model.safetensors and model.json, losses-*.csv and .png (by decade of sigma, on the batches and on items kept
    out of training), samples/ and, with --classifier-steps, classifier.safetensors.

    Interrupted? Run the same command again: it goes on where it stopped, with the same stream.

    Try it: sigmascope train scenes --size 16 --network mlp --steps 2000 --out models/scenes

    Measure it: sigmascope study scenes --model models/scenes --out studies/learned

    Several processes: torchrun --nproc-per-node 2 -m sigmascope train scenes --size 16 --network mlp --steps 2000 --out
    models/scenes
    """

    data: Annotated[str, tyro.conf.Positional, shown("DATA")] = ""
    """As for a study: 'scenes', 'hierarchy', or the path of a data file."""
    out: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder for the model: new, empty, or that of the same training."""
    abstractions: Annotated[str, shown("A,B", "(default: all)")] = ""
    """Attributes that the network can be told, as for a study."""
    network: Annotated[str, tyro.conf.arg(metavar="NETWORK")] = "auto"
    """unet (of diffusers, for images), mlp (for vectors, and for images that are all framed alike), or auto."""
    width: int = 0
    """Channels of the U-Net's first level, or units of the mlp's layers; 0: by the network."""
    depth: int = 0
    """Levels of the U-Net, or blocks of the mlp; 0: by the network."""
    steps: int = 20_000
    """Steps of the optimiser: a learning rate that falls to zero at the last one."""
    batch: int = 128
    """Rows of a step."""
    learning_rate: float = 1e-3
    """At its peak."""
    warmup: int = 500
    """Steps over which the learning rate rises."""
    weight_decay: float = 1e-4
    """Of matrices."""
    average: int = 2_000
    """Steps over which the weights of the finished model are averaged, at most."""
    noise: Annotated[str, tyro.conf.arg(metavar="NOISE")] = "adaptive"
    """Noise levels of training: adaptive (half of the rows evenly in ln sigma, half where the score gap lives, measured
    as training goes) or lognormal."""
    sigma_min: float = 0.01
    """Smallest noise level trained at."""
    sigma_max: float = 90.0
    """Largest."""
    log_mean: float = 0.0
    """Mean of ln sigma, in units of the data's own scale, for --noise lognormal."""
    log_std: float = 1.6
    """Standard deviation of ln sigma, for --noise lognormal."""
    holdout: float = 0.1
    """Share of the items kept out of training, to be measured on."""
    null: int = 8
    """Values of the spare attribute of random labels; 0 leaves it out."""
    classifier_steps: int = 0
    """Train a classifier of noisy values first, for so many steps: it bounds the information from below, and guesses
    for the denoiser what that is not told, which makes its gaps far less biased."""
    precision: Annotated[str, tyro.conf.arg(metavar="PRECISION")] = "auto"
    """Of products: float32, bfloat16, or auto (bfloat16 on a GPU). Weights stay in float32."""
    half: tyro.conf.FlagCreatePairsOff[bool] = False
    """Store the finished model in 16 bits."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    size: int = 32
    """Side of the scenes in pixels: 16, 32 or 64."""
    grain: tyro.conf.FlagCreatePairsOff[bool] = False
    """Give the floor of the scenes a fine texture, one more attribute."""
    ground: Annotated[str, shown("COLOUR", "(default: white)")] = "white"
    """What transparent pixels of pictures are laid on: white, black or #rrggbb."""
    checkpoint_seconds: float = 60.0
    """Seconds between two checkpoints."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """Where to compute: auto (a CUDA GPU where there is one), cpu, cuda."""


@dataclass(frozen=True)
class GenerateCommand:
    """Generate images by the exact filter of a data set, and see when each attribute of them was decided.

    The folder named by --out receives images.png (the images, with their attributes), decisions.png (what was still
    open of each attribute along the way), images.csv, and generate.npz (images, and posteriors at up to 16 levels).

    Interrupted? Run the same command again: it goes on where it stopped.

    Try it: sigmascope generate hierarchy --sampler filter --out made
    """

    data: Annotated[str, tyro.conf.Positional, shown("DATA")] = ""
    """As for a study: 'scenes', 'hierarchy', or the path of a data file."""
    out: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder for the results: new, empty, or that of the same command."""
    n: int = 16
    """Images."""
    sampler: Annotated[str, tyro.conf.arg(metavar="SAMPLER")] = "sde"
    """sde (the generative SDE, second order), ode (the probability-flow ODE, Heun), or filter: the noisy image and the
    filter's belief simulated together, with the denoiser computed from that belief alone."""
    about: Annotated[str, shown("A", "(default: the items, or the root of a hierarchy)")] = ""
    """For --sampler filter: the attribute on whose values the belief lives."""
    steps: int = 30
    """Steps between --sigma-max and --sigma-min, even in ln sigma."""
    sigma_max: float = 90.0
    """First noise level: well above the standard deviation of the data."""
    sigma_min: float = 0.02
    """Last noise level above 0."""
    abstractions: Annotated[str, shown("A,B", "(default: all)")] = ""
    """Attributes to follow, as for a study."""
    seed: int = 0
    """Seed of the noise; each image has its own stream."""
    size: int = 32
    """Side of the scenes in pixels: 16, 32 or 64."""
    grain: tyro.conf.FlagCreatePairsOff[bool] = False
    """Give the floor of the scenes a fine texture, one more attribute."""
    ground: Annotated[str, shown("COLOUR", "(default: white)")] = "white"
    """What transparent pixels of pictures are laid on: white, black or #rrggbb."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """Where to compute: auto (a CUDA GPU where there is one), cpu, cuda."""


@dataclass(frozen=True)
class ForkCommand:
    """Continue noisy images several times each: what do the continuations agree in?

    Where all children of a noisy image share an attribute, its noise level has decided it. The folder named by --out
    receives forks.png (each noisy parent, its children, and what they agree in), forks.csv (per parent and attribute:
    the commonest value, its share, the entropy of the children and the exact one), and fork.npz.

    Interrupted? Run the same command again: it goes on where it stopped.

    Try it: sigmascope fork hierarchy --sigma 0.4 --forks 32 --out forked
    """

    data: Annotated[str, tyro.conf.Positional, shown("DATA")] = ""
    """As for a study: 'scenes', 'hierarchy', or the path of a data file."""
    out: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder for the results: new, empty, or that of the same command."""
    sigma: float = 3.0
    """Noise level of the parents."""
    forks: int = 16
    """Children of each parent."""
    seeds: int = 8
    """Parents: images of the data under noise."""
    sampler: Annotated[str, tyro.conf.arg(metavar="SAMPLER")] = "exact"
    """exact (children drawn at once from the posterior), sde (followed down the levels; labels are then drawn from the
    posterior at --sigma-min), or ode, which is deterministic and forks only with --renoise."""
    renoise: float = 0.0
    """Noise the parent further, up to this level, before going down (the U-turn); 0: do not."""
    steps: int = 30
    """Steps down to --sigma-min, even in ln sigma."""
    sigma_min: float = 0.02
    """Last noise level above 0."""
    abstractions: Annotated[str, shown("A,B", "(default: all)")] = ""
    """Attributes to compare, as for a study."""
    seed: int = 0
    """Seed of parents and noise; each child has its own stream."""
    size: int = 32
    """Side of the scenes in pixels: 16, 32 or 64."""
    grain: tyro.conf.FlagCreatePairsOff[bool] = False
    """Give the floor of the scenes a fine texture, one more attribute."""
    ground: Annotated[str, shown("COLOUR", "(default: white)")] = "white"
    """What transparent pixels of pictures are laid on: white, black or #rrggbb."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """Where to compute: auto (a CUDA GPU where there is one), cpu, cuda."""


@dataclass(frozen=True)
class CompareCommand:
    """Which of two finished studies decides each attribute earlier?

    Takes two studies (of two models, two checkpoints, or two sets of data) and gives, for each attribute that both
    have, where half of it is known in each, the ratio of these noise levels with its 95 % interval, the probability
    that the first decides it earlier, and the difference in information at every level. Where both have the same draws,
    differences are taken draw by draw. The folder named by --out receives comparison.png, comparison.svg,
    comparison.csv and comparison.json.

    Try it: sigmascope compare studies/one studies/two --out compared
    """

    a: Annotated[str, tyro.conf.Positional, shown("STUDY_A")] = ""
    """The first study: its folder, or its results.nc."""
    b: Annotated[str, tyro.conf.Positional, shown("STUDY_B")] = ""
    """The second."""
    out: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder for the results: new, empty, or that of the same comparison."""
    estimator: Annotated[str, shown("NAME", "(default: the main one of each)")] = ""
    """Which estimator to compare; NAME:NAME for another one in each, e.g. posterior:likelihood. By default the one
    that each study is about: the exact filter, a model's best bound, a pipeline's forks."""


@dataclass(frozen=True)
class ReproduceCommand:
    """The experiments of the paper behind this program, all figures and tables, on one page.

    Runs "Latent Abstractions in Generative Diffusion Models" (Entropy 27(4):371, 2025): the two systems, the schedule,
    three measurements of one information, forks, probes; and what goes beyond it. The folder named by --out receives
    report.html (with a slider over the noise level), figures/ (SVG and PDF), tables/ (CSV), results.nc (a group for
    each stage) and stages/.

    Interrupted? Run the same command again: finished stages are kept.

    Try it: sigmascope reproduce --quick --out reproduced

    The file of 3D Shapes: sigmascope reproduce --data 3dshapes.h5 --out reproduced

    A learned model beside the exact filter: sigmascope reproduce --model bundled --out reproduced
    """

    out: Annotated[str, shown("FOLDER", "(required)")] = ""
    """Folder for the results: new, empty, or that of an earlier reproduction."""
    data: Annotated[str, tyro.conf.arg(metavar="DATA")] = "scenes"
    """The word 'scenes', or a data file as for a study, e.g. 3dshapes.h5."""
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")] = "exact"
    """exact (the exact filter of the data alone), or beside it 'bundled' or a folder of sigmascope train."""
    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """Fewer draws: minutes in place of a quarter of an hour, wider bands."""
    second: Annotated[str, shown("FILE", "(default: none)")] = ""
    """Another data file whose curves are shown under both laws; of the ten classes of CIFAR-10 also whether they are
    animals or vehicles."""
    abstractions: Annotated[str, shown("A,B", "(default: all)")] = ""
    """Attributes, as for a study."""
    size: int = 16
    """Side in pixels of the scenes, or to which larger pictures of a file are reduced by averaging; 0 leaves those as
    they are. With a model: the model's."""
    seed: int = 0
    """Seed of everything: the same seed gives the same numbers."""


@dataclass(frozen=True)
class CheckCommand:
    """Are the statements of the theory true, as this program computes them?

    Simulates small systems whose answer is known, one row for each statement (Bayes, innovation, change of measure,
    Kushner-Stratonovich, Zakai, information theorem, sufficiency, time reversal, denoiser = filter, ...), and compares
    what is measured with what the theory demands. Exit status 1 if any row is red.

    Try it: sigmascope check --fast
    """

    out: Annotated[str, shown("FILE", "(default: none)")] = ""
    """Write the table as JSON into this file."""
    fast: tyro.conf.FlagCreatePairsOff[bool] = False
    """An eighth of the paths: seconds in place of minutes, wider margins."""
    seed: int = 0
    """Seed of the simulations: the same seed gives the same numbers."""
    spoil: tyro.conf.Suppress[str] = ""
