"""Folders of pipelines that are damaged, senseless or hostile end in one line; nothing of theirs is run or fetched."""

from __future__ import annotations

import json
import pipes
import random
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel

from sigmascope.adapters.diffusers.folders import checked_index, described, hub_id, within_its_files
from sigmascope.adapters.diffusers.pipelines import in_latents, load_pipeline
from sigmascope.adapters.diffusers.text import load_prompted
from sigmascope.cli import main
from sigmascope.core import InputError

pytestmark = pytest.mark.filterwarnings("ignore")
SHORT = ["--draws", "8", "--levels", "4", "--forks", "4", "--steps", "4"]


def unet(out: int = 1, **more) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=4, in_channels=1, out_channels=out, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "x.npz"
    label = np.arange(40) % 4
    rng = np.random.default_rng(0)
    np.savez(path, images=(rng.random((40, 4, 4)) * 60 + label[:, None, None] * 50).astype(np.uint8), label=label)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole pipeline."""
    folder = tmp_path_factory.mktemp("whole") / "pipe"
    DDPMPipeline(unet(), DDPMScheduler()).save_pretrained(folder)
    return folder


@pytest.fixture
def alone(monkeypatch):
    """A machine without a network."""

    def refused(*args, **kwargs):
        raise AssertionError("the network was asked for")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def edited(name, **changes):
    """A change of settings in a JSON file of a folder; None takes the setting away."""

    def change(folder: Path):
        path = folder / name
        held = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in held.items() if v != "TAKEN"}))

    return change


def written(name, text):
    def change(folder: Path):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


def removed(name):
    def change(folder: Path):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def filed(name):
    """A file in place of a folder."""

    def change(folder: Path):
        shutil.rmtree(folder / name)
        (folder / name).write_text("mine")

    return change


def foldered(name):
    """A folder in place of a file."""

    def change(folder: Path):
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def cut(name, share=0.5):
    def change(folder: Path):
        held = (folder / name).read_bytes()
        (folder / name).write_bytes(held[: int(share * len(held))])

    return change


INDEX, UNET, SCHEDULER = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
RUN = "raise SystemExit('it was run')\nclass UNet2DModel: pass\n"
DAMAGED = [
    (edited(SCHEDULER, beta_schedule="zz"), "diffusers cannot open it (zz is not implemented"),
    (edited(SCHEDULER, num_train_timesteps=10**12), "num_train_timesteps is 1000000000000: expected at most 1,000,000"),
    (edited(SCHEDULER, num_train_timesteps="many"), "num_train_timesteps is 'many': expected 1000 or the like"),
    (edited(SCHEDULER, timestep_spacing=[]), "timestep_spacing is []: expected 'leading' or the like"),
    (edited(SCHEDULER, trained_betas=7), "alphas_cumprod has shape (1,)"),
    (edited(UNET, add_attention=["zz"]), "add_attention is ['zz']: expected True or the like"),
    (edited(UNET, attention_head_dim=True), "attention_head_dim is True: expected 8 or the like"),
    (edited(UNET, freq_shift=0.5), "freq_shift is 0.5: expected 0 or the like"),
    (edited(SCHEDULER, beta_end=float("nan")), "beta_end is nan"),
    (edited(UNET, block_out_channels=[10**6, 10**6]), "ask for more than twice the"),
    (edited(UNET, layers_per_block=10**6), "ask for more than twice the"),
    (edited(UNET, block_out_channels=[10**30, 8]), "block_out_channels is 1000000000000000"),
    (edited(UNET, sample_size=10**9), "sample_size is 1000000000: expected at most 131,072"),
    (edited(UNET, sample_size=10**5), "sample_size is 100000, of 1 channels: it is too large"),
    (edited(UNET, sample_size=None), "has no sample_size, the size of its images"),
    (edited(UNET, sample_size=[4, 4, 4]), "no images are of that size"),
    (edited(UNET, sample_size="4"), "no images are of that size"),
    (edited(UNET, class_embed_type="timestep"), "its weights lack 'class_embedding.linear_1.weight'"),
    (edited(UNET, add_attention=False), "which the network does not have"),
    (edited(UNET, down_block_types=["NoBlock2D"] * 2), "diffusers cannot open it"),
    (edited(INDEX, unet=["diffusers", "NoUNet"]), "diffusers cannot open it"),
    (edited(INDEX, unet=None), "unet is None: expected a library and a class"),
    (edited(INDEX, unet="ab"), "unet is 'ab': expected a library and a class"),
    (edited(INDEX, scheduler=[None, None]), "diffusers cannot open it"),
    (edited(INDEX, _class_name=["mine", "Pipe"]), "_class_name is ['mine', 'Pipe']"),
    (edited(INDEX, _class_name="NoPipeline"), "has no such pipeline"),
    (edited(INDEX, _class_name="TAKEN"), "_class_name is None"),
    (written(INDEX, "[]"), "it holds a list: expected a JSON object"),
    (written(INDEX, "[" * 100_000), "nested too deeply"),
    (written(INDEX, '{"a":' * 100_000), "nested too deeply"),
    (written(UNET, '"x"'), "it holds a str: expected a JSON object"),
    (written(SCHEDULER, ""), "cannot be read"),
    (removed("unet"), "names this part, and it is no folder"),
    (removed("scheduler"), "names this part, and it is no folder"),
    (removed(INDEX), "it holds no model_index.json"),
    (removed(WEIGHTS), "diffusers cannot open it"),
    (removed(UNET), "diffusers cannot open it"),
    (filed("unet"), "names this part, and it is no folder"),
    (foldered(INDEX), "it holds no model_index.json"),
    (foldered(UNET), "cannot be read"),
    (foldered(WEIGHTS), "diffusers cannot open it"),
    (cut(WEIGHTS), "diffusers cannot open it"),
    (cut(WEIGHTS, 0.001), "diffusers cannot open it"),
    # code of its own
    (edited(INDEX, unet=["mine", "UNet2DModel"]), "its unet is code of its own (mine), which is not run"),
    (edited(INDEX, extra=["mine", "Extra"]), "its extra is code of its own (mine)"),
    (edited(INDEX, unet=["diffusers", "DiffusionPipeline"]), "unet is a 'DiffusionPipeline'"),
    (written("None.py", RUN), "it holds code of its own (None.py), which is not run"),
    (written("unet/diffusers.py", RUN), "it holds code of its own (diffusers.py), which is not run"),
    (written("unet/model_index.json", "{}"), "it holds code of its own (model_index.json)"),
    (edited(UNET, auto_map={"AutoModel": "mine.Net"}), "it names code of its own (auto_map)"),
    (edited(UNET, _attn_implementation_internal="owner/name"), "it names code of its own"),
]


@pytest.mark.parametrize(("change", "said"), DAMAGED, ids=range(len(DAMAGED)))
def test_what_a_user_sees_of_a_folder(whole, data, tmp_path, change, said, alone, capsys):
    shutil.copytree(whole, tmp_path / "pipe")
    change(tmp_path / "pipe")
    capsys.readouterr()
    assert main(["study", str(data), "--model", f"diffusers:{tmp_path / 'pipe'}", *SHORT, "--dry-run"]) == 2
    words = capsys.readouterr().err
    assert said in words
    assert words.count("\n") == 1
    assert str(tmp_path) in words


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: DDPMPipeline(unet(class_embed_type="timestep"), DDPMScheduler()), "class_embed_type is 'timestep'"),
        (lambda: DDPMPipeline(unet(class_embed_type="identity"), DDPMScheduler()), "class_embed_type is 'identity'"),
        (lambda: DDPMPipeline(unet(out=3), DDPMScheduler()), "takes 1 channels and gives 3: expected 1, or twice"),
        (lambda: DDPMPipeline(unet(), DDPMScheduler(prediction_type="sample", beta_end=2.0)), ""),
    ],
)
def test_what_a_user_sees_of_a_network(made, said, data, tmp_path, capsys):
    made().save_pretrained(tmp_path / "pipe")
    assert main(["study", str(data), "--model", f"diffusers:{tmp_path / 'pipe'}", *SHORT, "--dry-run"]) == 2
    words = capsys.readouterr().err
    assert said in words
    assert words.count("\n") == 1


@pytest.mark.parametrize("kind", ["learned_range", "fixed_small"])
def test_learned_variance_is_left_out(tmp_path, kind):
    """Of a network of twice the channels the first half is its noise, whatever the scheduler makes of the other."""
    net = unet(out=2).eval()
    DDPMPipeline(net, DDPMScheduler(variance_type=kind)).save_pretrained(tmp_path)
    pipe = load_pipeline(tmp_path)
    y, sigma = torch.rand(2, 1, 4, 4).double(), torch.tensor([0.3, 2.0]).double()
    own = pipe.denoiser.schedule
    time = torch.from_numpy(own.time(2 * sigma.numpy()))
    alpha = torch.from_numpy(own.alpha(time.numpy())).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        noise = net((alpha * (2 * y - 1)).float(), time.float()).sample[:, :1].double()
    assert torch.allclose(pipe.denoiser(y, sigma), y - sigma.reshape(-1, 1, 1, 1) * noise, atol=1e-6)


def test_parts_beside_the_index(whole, tmp_path):
    """Old pipelines of one network have its files, and those of the scheduler, in the folder itself."""
    shutil.copytree(whole, tmp_path / "flat")
    for part in ("unet", "scheduler"):
        for path in (tmp_path / "flat" / part).iterdir():
            path.rename(tmp_path / "flat" / path.name)
        (tmp_path / "flat" / part).rmdir()
    y, sigma = torch.rand(2, 1, 4, 4), torch.ones(2)
    flat = load_pipeline(tmp_path / "flat")
    assert torch.equal(flat.denoiser(y, sigma), load_pipeline(whole).denoiser(y, sigma))
    assert not in_latents(tmp_path / "flat", checked_index(tmp_path / "flat"))
    edited("config.json", block_out_channels=[10**6, 10**6])(tmp_path / "flat")
    with pytest.raises(InputError, match="more than twice"):
        load_pipeline(tmp_path / "flat")


def test_one_class_is_always_given(tmp_path):
    DDPMPipeline(unet(num_class_embeds=1), DDPMScheduler()).save_pretrained(tmp_path)
    denoiser = load_pipeline(tmp_path).denoiser
    assert not denoiser.attributes
    assert denoiser(torch.rand(2, 1, 4, 4), torch.ones(2)).shape == (2, 1, 4, 4)


def test_half_precision_alone(data, tmp_path, capsys):
    DDPMPipeline(unet(), DDPMScheduler()).save_pretrained(tmp_path / "pipe", variant="fp16")
    args = ["study", str(data), "--model", f"diffusers:{tmp_path / 'pipe'}", *SHORT, "--dry-run"]
    assert main(args) == 2
    words = capsys.readouterr().err
    assert "it has weights of the variant fp16 alone: pass --variant fp16" in words
    assert words.count("\n") == 1
    assert main([*args, "--variant", "fp16"]) == 0
    assert load_pipeline(tmp_path / "pipe", variant="fp16").denoiser.event == (1, 4, 4)
    with pytest.raises(InputError, match="pass --variant fp16"):
        load_pipeline(tmp_path / "pipe", variant="ema")
    assert main(["study", str(data), "--variant", "fp16", "--dry-run"]) == 2
    assert "--variant fp16 is an option of a pipeline" in capsys.readouterr().err


def test_a_network_that_answers_with_nothing(data, tmp_path, capsys):
    net = unet()
    torch.nn.init.constant_(net.conv_out.bias, float("nan"))
    DDPMPipeline(net, DDPMScheduler()).save_pretrained(tmp_path / "pipe")
    assert main(["study", str(data), "--model", f"diffusers:{tmp_path / 'pipe'}", *SHORT, "--dry-run"]) == 2
    assert "output of its network is not finite" in capsys.readouterr().err


def test_networks_are_no_larger_than_their_files(whole):
    """A network is refused while it is made: its memory is never touched."""
    with within_its_files(whole):
        torch.nn.Linear(1000, 1000)
    with pytest.raises(InputError, match="more than twice"), within_its_files(whole):
        torch.nn.Linear(10**4, 10**4)
    torch.nn.Linear(2000, 2000)  # and not refused afterwards


# What leaves the machine.


def test_a_hub_is_written_out(monkeypatch, whole, tmp_path, alone):
    """``hub:owner/name`` is fetched by diffusers, safetensors alone and no code; a missing folder is not looked for."""
    asked = []
    own = DiffusionPipeline.from_pretrained

    def fetched(name, **how):
        asked.append((name, how))
        return own(str(whole), **{k: v for k, v in how.items() if k != "revision"})

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", fetched)
    monkeypatch.chdir(tmp_path)
    for name in ("hub:owner/name", "diffusers:hub:owner/name"):
        pipe = load_pipeline(name, allow_pickle=True, variant="")
        assert pipe.denoiser.event == (1, 4, 4)
        assert pipe.name == name
    assert [name for name, _ in asked] == ["owner/name"] * 2
    assert all(how["use_safetensors"] is True and how["trust_remote_code"] is False for _, how in asked)
    assert not any("custom_pipeline" in how for _, how in asked)
    for name in ("diffusers:models/mine", "models/mine", "mine"):
        with pytest.raises(InputError, match="there is no such folder"):
            load_pipeline(name)
    with pytest.raises(InputError, match="written hub:models/mine"):
        load_pipeline("diffusers:models/mine")
    assert len(asked) == 2


def test_a_folder_is_opened_without_a_network(whole, monkeypatch, alone):
    asked = []
    own = DiffusionPipeline.from_pretrained
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *a, **k: asked.append(k) or own(*a, **k))
    load_pipeline(whole)
    assert asked[0]["local_files_only"] is True
    assert asked[0]["trust_remote_code"] is False


def test_prompts_of_half_precision_without_a_network(tmp_path, alone):
    pipes.stable(tmp_path / "plain").save_pretrained(tmp_path / "half", variant="fp16")
    with pytest.raises(InputError, match="pass --variant fp16"):
        load_prompted(tmp_path / "half", ["a red cube"])
    one = load_prompted(tmp_path / "half", ["a red cube"], variant="fp16").denoiser
    other = load_prompted(tmp_path / "plain", ["a red cube"]).denoiser
    y, sigma = torch.rand(1, *one.event), torch.ones(1)
    assert torch.allclose(one(y, sigma), other(y, sigma))


def test_prompts_of_a_hub(tmp_path, monkeypatch, alone):
    pipes.stable(tmp_path)
    own, asked = DiffusionPipeline.from_pretrained, []
    monkeypatch.setattr(
        DiffusionPipeline, "from_pretrained", lambda name, **k: asked.append((name, k)) or own(str(tmp_path), **k)
    )
    pipe = load_prompted("hub:owner/name", ["a red cube"])
    assert pipe.name == "hub:owner/name"
    assert asked[0][0] == "owner/name"
    assert asked[0][1]["use_safetensors"] is True
    assert asked[0][1]["trust_remote_code"] is False


def test_a_hub_is_described_without_its_weights(tmp_path, monkeypatch, alone):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: asked.append((a, k)) or str(tmp_path))
    assert described("hub:owner/name") == tmp_path
    assert asked[0][0] == ("owner/name",)
    assert all(p.endswith(".json") for p in asked[0][1]["allow_patterns"])
    assert described(tmp_path) == tmp_path
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: 1 / 0)
    with pytest.raises(InputError, match="the hub does not give it"):
        described("hub:owner/name")


@pytest.mark.parametrize("name", ["hub:", "hub:mine", "hub:a/b/c", "hub:../x", "hub:a/b?x", "hub:http://a/b"])
def test_what_is_no_id(name):
    with pytest.raises(InputError, match="expected hub:owner/name"):
        hub_id(name)


@pytest.mark.parametrize("command", ["study", "prompts"])
@pytest.mark.parametrize("model", ["diffusers:models/mine", "hub:mine"])
def test_commands_do_not_look_for_a_folder_elsewhere(command, model, data, tmp_path, alone, capsys):
    own = [str(data), "--dry-run"] if command == "study" else ["--prompt", "a cube", "--out", str(tmp_path / "out")]
    assert main([command, *own, "--model", model]) == 2
    words = capsys.readouterr().err
    assert words.count("\n") == 1
    assert "hub:" in words


# What a file may do.


def specified(folder: Path, data: Path, model: Path, **more) -> str:
    lines = {"data": str(data), "model": f"diffusers:{model}", "draws": 8, "levels": 4, "forks": 4, "steps": 4} | more
    (folder / "spec.toml").write_text("[study]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in lines.items()))
    return str(folder / "spec.toml")


def test_a_file_neither_reads_pickles_nor_runs_a_labeller(data, tmp_path, monkeypatch, capsys):
    DDPMPipeline(unet(), DDIMScheduler()).save_pretrained(tmp_path / "pipe", safe_serialization=False)
    path = specified(tmp_path, data, tmp_path / "pipe", allow_pickle=True)
    assert main(["study", "--spec", path, "--dry-run"]) == 2
    assert "add --allow-pickle if you trust" in capsys.readouterr().err
    assert main(["study", "--spec", path, "--dry-run", "--allow-pickle"]) == 0
    DDPMPipeline(unet(), DDIMScheduler()).save_pretrained(tmp_path / "safe")
    (tmp_path / "mylabels.py").write_text("open('run', 'w').close()\ndef f(images):\n    return [0] * len(images)\n")
    monkeypatch.chdir(tmp_path)
    path = specified(tmp_path, "generated", tmp_path / "safe", labeller="mylabels:f")
    capsys.readouterr()
    assert main(["study", "--spec", path, "--dry-run"]) == 2
    words = capsys.readouterr().err
    assert "add --labeller mylabels:f if you trust it" in words
    assert words.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main(["study", "--spec", path, "--dry-run", "--labeller", "mylabels:f"]) == 0


# Anything else: folders changed at random.

RUBBISH = [
    None, -1, 0, 10**12, 10**40, -(10**9), 1e308, float("nan"), float("inf"), "zz", "", True, [], {}, [[]], [None],
    {"a": {"b": []}}, ["zz"] * 3, "1" * 1000, [1, 2, 3],
]  # fmt: skip


def mutation(rng: random.Random, folder: Path) -> str:
    """Damage a folder somewhere, and say how."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    way = rng.choice(["value"] * 6 + ["key", "delete", "truncate", "folder", "noise", "part", "nest"])
    if way in ("value", "key"):
        path = rng.choice([p for p in files if p.suffix == ".json"])
        held = json.loads(path.read_text())
        key = rng.choice(sorted(held))
        if way == "key":
            del held[key]
            value: object = "(gone)"
        else:
            value = held[key] = rng.choice(RUBBISH)
        path.write_text(json.dumps(held))
        return f"{path.name}: {key} = {str(value)[:30]}"
    if way == "part":
        part = rng.choice(["unet", "scheduler"])
        shutil.rmtree(folder / part)
        if rng.random() < 0.5:
            (folder / part).write_text("x")
        return f"no {part}"
    path = rng.choice(files)
    if way == "nest":
        path.write_text("[" * rng.choice([5, 10**5]) + "1")
    elif way == "noise":
        held = bytearray(path.read_bytes())
        for _ in range(8):
            held[rng.randrange(min(len(held), 400))] = rng.randrange(256)
        path.write_bytes(bytes(held))
    elif way == "truncate":
        path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    else:
        path.unlink()
        if way == "folder":
            path.mkdir()
    return f"{way} {path.name}"


@pytest.mark.parametrize("seed", range(9))
def test_folders_changed_at_random_end_in_one_line(seed, whole, data, tmp_path, alone, capsys):
    """A change may leave a pipeline as good as it was; every other one is said in a line, without a network."""
    rng, refused = random.Random(seed), 0
    for k in range(15):
        folder = tmp_path / str(k)
        shutil.copytree(whole, folder)
        how = mutation(rng, folder)
        capsys.readouterr()
        status = main(["study", str(data), "--model", f"diffusers:{folder}", *SHORT, "--dry-run"])
        words = capsys.readouterr().err
        assert status in (0, 2), how
        assert words.count("\n") == (1 if status else 0), (how, words)
        assert "Traceback" not in words, how
        refused += status == 2
    assert refused >= 6
