"""Text-to-image pipelines made on the spot: steps of diffusers' own, and networks that are exact denoisers of a law."""

from __future__ import annotations

import itertools
import json
import math
import pipes
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)

from sigmascope.adapters import Foreign
from sigmascope.adapters.diffusers.pipelines import load_pipeline
from sigmascope.adapters.diffusers.text import load_prompted
from sigmascope.adapters.diffusers.units import Ruler
from sigmascope.core import Attribute, InputError, generator
from sigmascope.information.maps import from_infinity, information_maps
from sigmascope.information.mixture import Mixture
from sigmascope.noise import FlowMatching, Karras, VarianceExploding, sigma_grid

pytestmark = pytest.mark.filterwarnings("ignore")
A, B = "a red cube", "a blue ball"
KINDS = ("stable", "xl", "flux")
SPAN = dict.fromkeys(("stable", "xl", "distilled"), 0) | {"flux": 16}
SCHEDULERS = {
    "ddim": (DDIMScheduler, pipes.SCALED | {"clip_sample": False, "steps_offset": 1}),
    "euler": (EulerDiscreteScheduler, pipes.SCALED | {"steps_offset": 1}),
    "dpm": (DPMSolverMultistepScheduler, pipes.SCALED),
    "edm": (EDMEulerScheduler, {"sigma_data": 0.5}),
    "flow": (FlowMatchEulerDiscreteScheduler, {"shift": 3.0}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder and diffusers' own pipeline of each kind."""
    root = tmp_path_factory.mktemp("pipes")
    made = {kind: getattr(pipes, kind)(root / kind) for kind in KINDS}
    made["distilled"] = pipes.stable(root / "distilled", unet=pipes.unet(16, False, distilled=True))
    for pipe in made.values():
        pipe.set_progress_bar_config(disable=True)
    return {kind: (root / kind, pipe) for kind, pipe in made.items()}


def opened(folders, kind, prompts):
    return load_pipeline(f"diffusers:{folders[kind][0]}", prompts=prompts, size=SPAN[kind])


def unpacked(x, kind):
    """Latents as images: those of Flux are rows of patches."""
    return torch.nn.functional.pixel_shuffle(x.mT.unflatten(2, (4, 4)), 2) if kind == "flux" else x


@pytest.mark.parametrize("kind", [*KINDS, "distilled"])
def test_a_step_of_the_pipeline_itself(folders, kind):
    """Without guidance it takes a state to α'(D + σ'(y − D)/σ), with our D of the prompt."""
    _, own = folders[kind]
    seen = []

    def keep(pipe, step, time, held):
        seen.append((float(time), unpacked(held["latents"], kind).double()))
        return held

    own(
        A, guidance_scale=1.0, num_inference_steps=8, output_type="latent", callback_on_step_end=keep,
        generator=generator(1), height=16, width=16,
    )  # fmt: skip
    pipe = opened(folders, kind, (A, B))
    given = {"prompt": torch.tensor([0])}
    for (_, before), (now, after) in list(itertools.pairwise(seen))[1:6]:
        times = own.scheduler.timesteps.tolist()
        then = times[times.index(now) + 1]
        share = 1000 if kind == "flux" else 1
        s, u = (float(pipe.denoiser.schedule.sigma(t / share)) for t in (now, then))
        a, b = (float(pipe.denoiser.schedule.alpha(t / share)) for t in (now, then))
        y = before / a
        d = pipe.denoiser(y, torch.tensor([s], dtype=torch.float64), given)
        wanted = b * (d + u / s * (y - d))
        assert torch.allclose(wanted, after, atol=2e-5 * float(after.abs().max()), rtol=0), now
        other = pipe.denoiser(y, torch.tensor([s], dtype=torch.float64), {"prompt": torch.tensor([1])})
        assert float((other - d).abs().max()) > 1e-6  # the prompt is heard


@torch.no_grad()  # with gradients, attention takes another way, and rounds otherwise
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_of_the_pipeline(folders, kind):
    _, own = folders[kind]
    network = opened(folders, kind, (A, "", B)).denoiser.network
    if kind == "stable":
        for k, value in enumerate((A, "", B)):
            assert torch.allclose(network.text[k], own.encode_prompt(value, "cpu", 1, False)[0][0], atol=1e-6)
    elif kind == "xl":
        for k, value in ((0, A), (2, B)):
            text, _, pooled, _ = own.encode_prompt(value, device="cpu", do_classifier_free_guidance=False)
            assert torch.allclose(network.text[k], text[0], atol=1e-6)
            assert torch.allclose(network.pooled[k], pooled[0], atol=1e-6)
        assert not network.text[1].any()  # as guidance has it: force_zeros_for_empty_prompt
        assert not network.pooled[1].any()
        assert network.sizes.tolist() == [[16, 16, 0, 0, 16, 16]]
    else:
        for k, value in enumerate((A, "", B)):
            text, pooled, _ = own.encode_prompt(value, device="cpu")
            assert torch.allclose(network.text[k], text[0], atol=1e-6)
            assert torch.allclose(network.pooled[k], pooled[0], atol=1e-6)


def test_the_empty_prompt_of_an_xl_that_does_not_zero_it(tmp_path):
    own = pipes.xl(tmp_path / "xl", force_zeros_for_empty_prompt=False)
    network = load_prompted(tmp_path / "xl", [A]).denoiser.network
    text, _, pooled, _ = own.encode_prompt("", device="cpu", do_classifier_free_guidance=False)
    assert torch.allclose(network.text[0], text[0], atol=1e-6)
    assert torch.allclose(network.pooled[0], pooled[0], atol=1e-6)
    assert network.text[0].abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_many_rows_at_once_are_those_one_by_one(folders, kind):
    pipe = opened(folders, kind, (A,))
    assert pipe.denoiser.attributes[0].values == ("", A)
    g = generator(2)
    y, sigma = torch.randn(7, 4, 8, 8, generator=g).double(), torch.rand(7, generator=g).double() * 5 + 0.1
    label = torch.tensor([0, 1, -1, 1, 0, -1, 1])
    one = torch.cat([pipe.denoiser(y[i : i + 1], sigma[i : i + 1], {"prompt": label[i : i + 1]}) for i in range(7)])
    for rows in (2, 5, 512):
        pipe.denoiser.network.rows = rows
        assert torch.allclose(pipe.denoiser(y, sigma, {"prompt": label}), one, atol=1e-5)
    empty = pipe.denoiser(y, sigma, {"prompt": torch.zeros(7, dtype=torch.int64)})
    assert torch.allclose(pipe.denoiser(y, sigma), empty, atol=1e-6)  # unconditional: the empty prompt
    both = opened(folders, kind, (A, B))
    with pytest.raises(InputError, match="always needs 'prompt'"):
        both.denoiser(y, sigma)


class Exact(torch.nn.Module):
    """The exact denoiser of N(m, C), m linear in the embedding, in the place and in the words of a network."""

    def __init__(self, pipe, shape):
        super().__init__()
        self.register_parameter("kept", torch.nn.Parameter(torch.zeros(())))  # says in which type it works
        denoiser, g = pipe.denoiser, generator(7)
        self.schedule, self.prediction = denoiser.schedule, denoiser.prediction
        network = getattr(denoiser.network, "inner", denoiser.network)
        self.config = SimpleNamespace(guidance_embeds=True)
        wide = network.text.shape[2] + (0 if network.pooled is None else network.pooled.shape[1])
        self.reading = torch.randn(math.prod(shape), wide, generator=g).double() * 0.15
        self.spread = 0.3 + 2 * torch.rand(math.prod(shape), generator=g).double()  # the diagonal of C
        self.shape = shape

    def mean(self, text, pooled):
        read = text.double().mean(1)
        read = read if pooled is None else torch.cat([read, pooled.double()], 1)
        return read @ self.reading.T

    def forward(self, x=None, time=None, *, encoder_hidden_states, added_cond_kwargs=None, hidden_states=None,
                timestep=None, pooled_projections=None, **others):  # fmt: skip
        pooled = pooled_projections if added_cond_kwargs is None else added_cond_kwargs["text_embeds"]
        x = (x if hidden_states is None else hidden_states).double()
        share = 1000 if self.prediction == "flow_prediction" else 1  # what a U-Net is given of a flow's clock
        time = time.double() / share if timestep is None else timestep.double()
        m = self.mean(encoder_hidden_states, pooled)
        if isinstance(self.schedule, Karras):  # of the preconditioned input
            s = torch.exp(4 * time)[:, None]
            total = (s**2 + 0.25).sqrt()
            y = x.flatten(1) * total
            d = m + self.spread / (self.spread + s**2) * (y - m)
            said = (d - (0.5 / total) ** 2 * y) / (s * 0.5 / total)
        else:
            alpha, s = (torch.from_numpy(f(time.numpy()))[:, None] for f in (self.schedule.alpha, self.schedule.sigma))
            y = x.flatten(1) / alpha
            v = m + self.spread / (self.spread + s**2) * (y - m)
            n = (y - v) / s
            words = {"epsilon": n, "v_prediction": alpha * (n - s * v), "flow_prediction": n - v}
            said = words[self.prediction]
        return SimpleNamespace(sample=said.reshape(len(said), *self.shape).float())


def exact(folder, kind, prompts):
    """The pipeline with an exact network, its means of each prompt and its variances."""
    pipe = load_pipeline(folder, prompts=prompts, size=SPAN[kind])
    network = getattr(pipe.denoiser.network, "inner", pipe.denoiser.network)
    model = Exact(pipe, (16, 16) if kind == "flux" else (4, 8, 8))
    setattr(network, "transformer" if kind == "flux" else "unet", model)
    return pipe, model.mean(network.text, network.pooled), model.spread


CASES = [
    *(("stable", s, p) for s in ("ddim", "euler", "dpm") for p in ("epsilon", "v_prediction")),
    ("stable", "edm", "epsilon"), ("xl", "ddim", "epsilon"), ("xl", "euler", "v_prediction"),
    ("stable", "flow", ""), ("flux", "flow", ""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "scheduler", "prediction"), CASES)
def test_information_of_a_gaussian_is_its_divergence(tmp_path, kind, scheduler, prediction):
    """½∫E‖D_A − D_∅‖²dλ = KL(N(m_A, C + σ²) ‖ N(m_∅, C + σ²)), through every parametrisation and scheduler."""
    make, options = SCHEDULERS[scheduler]
    options = options | ({"prediction_type": prediction} if prediction else {})
    getattr(pipes, kind)(tmp_path / "pipe", scheduler=make(**options))
    pipe, mean, spread = exact(tmp_path / "pipe", kind, (A,))
    sigma = sigma_grid(14.0, 0.05, 28)
    square = (mean[1] - mean[0]) ** 2
    wanted = 0.5 * np.array([float((square / (spread + s**2)).sum()) for s in sigma])
    assert wanted[-1] > 0.5
    v = torch.randn(4, 8, 8, generator=generator(3))
    found = information_maps(pipe.denoiser, v, {"prompt": 1}, sigma, noises=2)["prompt"]
    assert np.allclose(found.total, wanted, rtol=2e-3, atol=1e-4 * wanted[-1])


def test_a_flow_that_shifts_with_the_size_is_set_to_it(folders):
    """The mu that the pipeline of this size computes; the ruler can then be set to steps."""
    pipe = opened(folders, "flux", (A,))
    own = folders["flux"][1].scheduler
    own.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8), mu=0.5 + 0.65 * (16 - 256) / (4096 - 256))
    pipe.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
    assert torch.allclose(pipe.scheduler.sigmas, own.sigmas, atol=1e-6)
    assert Ruler(pipe.scheduler, 8).of_sigma(1.0).timestep == pytest.approx(500.0)


def test_divergence_of_gaussians_that_differ_in_spread():
    """The identity itself: KL of N(m1, c1 + σ²) from N(m0, c0 + σ²) is the integral of the gap under the first."""
    m, c = torch.tensor([[0.0, 0.3, -1.0], [0.8, 0.0, 1.0]]).double(), torch.tensor([[1.0, 0.5, 2.0], [0.4, 1.5, 0.7]])
    c = c.double()

    def network(x, time, label):
        s = time.double()[:, None]
        return m[label] + c[label] / (c[label] + s**2) * (x.double() - m[label])

    attribute = Attribute("prompt", ("", A), torch.tensor([0.5, 0.5]).double())
    model = Foreign(network, (3,), VarianceExploding(0.001, 1000.0), "sample", clock=lambda t: 0.001 * 1e6**t,
                    attribute=attribute, null=0)  # fmt: skip
    sigma, g = sigma_grid(20.0, 0.1, 24), generator(5)
    v = m[1] + c[1].sqrt() * torch.randn(1000, 3, generator=g).double()
    each = []
    for s in sigma:
        y = v + float(s) * torch.randn(1000, 3, generator=g).double()
        level = torch.full((1000,), float(s)).double()
        gap = model(y, level, {"prompt": torch.ones(1000, dtype=torch.int64)}) - model(y, level)
        each.append((gap**2).sum(1).numpy() / s**2)
    draws = from_infinity(sigma) @ np.stack(each)
    total = c[:, None] + torch.from_numpy(sigma)[:, None] ** 2
    kl = 0.5 * (total[1] / total[0] - 1 + (m[1] - m[0]) ** 2 / total[0] + (total[0] / total[1]).log()).sum(1).numpy()
    error = draws.std(1, ddof=1) / 1000**0.5
    assert np.all(np.abs(draws.mean(1) - kl) < 4 * error + 1e-3)
    assert error[-1] < 0.05 * kl[-1]


def test_the_mixture_of_two_prompts():
    """Unconditional, the mixture of two Gaussians, in closed form; given a prompt, what it was made of."""
    attribute = Attribute("prompt", (A, B), torch.tensor([0.5, 0.5]).double())
    m, c = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]).double(), torch.tensor([0.16, 0.6]).double()

    def network(x, time, label):
        s, spread = time.double()[:, None], c[label][:, None]
        return m[label] + spread / (spread + s**2) * (x.double() - m[label])

    model = Foreign(network, (3,), Karras(), "denoiser", attribute=attribute)
    mixture = Mixture(model, "prompt", span=2.0, nodes=8, pairs=10)
    g = generator(1)
    y, sigma = torch.randn(40, 3, generator=g).double() * 2, torch.tensor([0.4, 3.0]).double().repeat(20)
    total = c + sigma[:, None] ** 2
    log_p = torch.stack([-((y - m[k]) ** 2).sum(1) / 2 / total[:, k] - 1.5 * total[:, k].log() for k in (0, 1)], 1)
    right = log_p.softmax(1)[:, 1]
    q = mixture.log_posterior(y, sigma, "prompt").exp()
    assert torch.allclose(q[:, 1], right, atol=0.06)
    each = [model(y, sigma, {"prompt": torch.full((40,), k)}) for k in (0, 1)]
    wanted = (1 - right)[:, None] * each[0] + right[:, None] * each[1]
    assert float((mixture(y, sigma) - wanted).abs().max()) < 0.12
    alone = torch.cat([mixture(y[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    assert torch.allclose(alone, mixture(y, sigma)[:3], atol=1e-9)
    some = torch.tensor([0, -1, 1, -1] * 10)
    mixed = mixture(y, sigma, {"prompt": some})
    assert torch.equal(mixed[some == 1], each[1][some == 1])
    assert torch.allclose(mixed[some == -1], mixture(y, sigma)[some == -1], atol=1e-9)
    with pytest.raises(InputError, match="cannot be conditioned on 'hue'"):
        mixture(y, sigma, {"hue": some})
    with pytest.raises(InputError, match="choose among prompt"):
        Mixture(model, "hue", span=1.0)


def said(path, prompts=(A, B), **options):
    with pytest.raises(InputError) as error:
        load_pipeline(path, prompts=prompts, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_prompts_that_cannot_be_used(folders):
    folder = folders["stable"][0]
    assert "no prompt was given" in said(folder, ())
    assert "'a red cube' is there twice" in said(folder, (A, A))
    assert "'' is there twice" in said(folder, ("",))
    assert "sequence of texts" in said(folder, A)
    assert "multiple of 2 pixels" in said(folder, size=15)
    assert "multiple of 4 pixels" in said(folders["flux"][0], size=18)
    with pytest.raises(InputError, match="takes prompts: pass prompts="):
        load_pipeline(folder)


def test_folders_that_cannot_be_opened(tmp_path):
    assert "there is no such folder" in said(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "it holds no model_index.json" in said(tmp_path / "empty")
    folder = tmp_path / "pipe"
    pipes.stable(folder)
    index = folder / "model_index.json"
    whole = json.loads(index.read_text())
    index.write_text(json.dumps(whole | {"text_encoder": [None, None]}))
    assert "it has no text_encoder: pass the folder of a whole StableDiffusionPipeline" in said(folder)
    index.write_text(json.dumps(whole | {"unet": ["my_code", "UNet"]}))
    assert "its unet is code of its own (my_code)" in said(folder)
    index.write_text(json.dumps(whole | {"_class_name": "KandinskyPipeline"}))
    assert "KandinskyPipeline takes no prompts here: pass one of AuraFlowPipeline, FluxPipeline" in said(folder)
    index.write_text(json.dumps(whole))
    weights = next((folder / "text_encoder").glob("*.safetensors"))
    torch.save(pipes.CLIPTextModel(pipes.clip_config()).state_dict(), folder / "text_encoder" / "pytorch_model.bin")
    weights.unlink()
    assert "which can run any code" in said(folder)
    assert load_pipeline(folder, prompts=[A], allow_pickle=True).denoiser.event == (4, 8, 8)
    (folder / "text_encoder" / "pytorch_model.bin").unlink()
    assert "cannot open it" in said(folder)


def test_a_damaged_folder(tmp_path, capfd):
    folder = tmp_path / "flux"
    pipes.flux(folder)
    capfd.readouterr()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    assert "cannot open it" in said(folder)
    next((folder / "text_encoder_2").glob("*.safetensors")).write_bytes(b"no weights")
    pipes.clip_tokenizer().save_pretrained(folder / "tokenizer")
    assert "cannot open it" in said(folder)
    assert capfd.readouterr().err == ""  # the caller says one line


def test_parts_that_do_not_fit(tmp_path):
    pipes.stable(tmp_path / "pipe")
    tokens = pipes.clip_tokenizer()
    tokens.add_tokens(["qq"])  # which the encoder does not have
    tokens.save_pretrained(tmp_path / "pipe" / "tokenizer")
    assert "its parts do not fit each other" in said(tmp_path / "pipe", ("qq", A))


def test_a_network_given_more_than_a_prompt(tmp_path):
    net = pipes.UNet2DConditionModel(
        sample_size=8, in_channels=9, out_channels=4, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), cross_attention_dim=16,
    )  # fmt: skip
    pipes.stable(tmp_path / "pipe", unet=net)
    assert "takes 9 channels and its latents have 4" in said(tmp_path / "pipe")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_off_is_said(folders, kind):
    long = "abc " * 12
    pipe = opened(folders, kind, (A, long))
    assert len(pipe.notes) == 1
    assert "has 38 tokens, a CLIP text encoder reads 24: 'bc abc abc abc abc' is cut off" in pipe.notes[0]
    assert opened(folders, kind, (A, B)).notes == ()


def test_latents_scaled_by_channel(tmp_path):
    """encode and decode are each other's inverse in the words of the autoencoder."""
    torch.manual_seed(0)
    vae = pipes.vae()
    vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.0, 2.0, 4.0])
    pipes.stable(tmp_path / "pipe", vae=vae)
    pipe = load_prompted(tmp_path / "pipe", [A])
    pixels = torch.rand(2, 3, 16, 16, generator=generator(0))
    with torch.no_grad():
        raw = vae.eval().encode(2 * pixels - 1).latent_dist.mean
        wanted = ((vae.decode(raw).sample + 1) / 2).clamp(0, 1)
    latents = pipe.encode(pixels)
    by_hand = (raw - torch.tensor([0.1, -0.2, 0.3, 0.0])[:, None, None]) / torch.tensor([0.5, 1.0, 2.0, 4.0])[
        :, None, None
    ]
    assert torch.allclose(latents, 0.3 * by_hand, atol=1e-5)
    assert torch.allclose(pipe.decode(latents), wanted, atol=1e-5)


def test_a_flow_of_few_steps_reads_half_as_many_tokens(folders, tmp_path):
    pipes.flux(tmp_path / "flux", guidance=False)
    assert load_prompted(tmp_path / "flux", [A], size=16).denoiser.network.text.shape[1] == 256
    assert opened(folders, "flux", (A,)).denoiser.network.text.shape[1] == 512


def test_flow_levels_are_those_of_the_schedule(folders):
    assert isinstance(opened(folders, "flux", (A,)).denoiser.schedule, FlowMatching)
