"""The test prompt on tiny models that answer, do not answer or must not be loaded; transformers is real."""

import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from model_ops.recovery.errors import Failure, Refusal
from model_ops.recovery.smoke.answer import smoke_folder
from tests import tiny_models
from tests.model_ops.recovery.models import ROOT, run_cli, safetensors_to_bin, torch, transformers

VOCAB = 300
PROMPT = "Who are you?"
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %} [assistant]"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Use one thread: tiny matrices gain nothing from more, and idle threads would slow other tests down."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny_models.make_tiny_base(tmp_path_factory.mktemp("smoke") / "made", vocab=VOCAB)


@pytest.fixture
def folder(made, tmp_path):
    """Return a random model with a tokenizer and no chat template, for this test alone."""
    out = tmp_path / "out"
    out.mkdir()
    for path in made.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def change_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_weights(folder, change):
    """Rewrite the weight file after calling `change` on its tensors."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    tiny_models.save(folder, weights)


def expected(folder, text, *, special, most):
    """Return the ids and the text of transformers' own greedy generation."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    ids = tokenizer(text, add_special_tokens=special, return_tensors="pt")
    made = model.generate(**ids, do_sample=False, max_new_tokens=most, pad_token_id=2)
    made = made[0, ids["input_ids"].shape[1] :]
    return len(made), tokenizer.decode(made, skip_special_tokens=True).strip()


def test_result_without_a_chat_template_is_asked_in_tulus_format(folder):
    found = smoke_folder(folder, prompt=PROMPT, max_new_tokens=12, device="cpu")
    tokens, words = expected(folder, f"<|user|>\n{PROMPT}\n<|assistant|>\n", special=True, most=12)
    assert (found.tokens, found.answer) == (tokens, words)
    assert (found.prompt, found.template) == (PROMPT, "Tulu's format")
    assert (found.device, found.dtype, found.finite) == ("cpu", "bfloat16", True)


def test_chat_template_of_the_tokenizer_is_followed(folder):
    change_json(folder / "tokenizer_config.json", chat_template=TEMPLATE)
    found = smoke_folder(folder, prompt=PROMPT, max_new_tokens=12, device="cpu")
    tokens, words = expected(folder, f"[user] {PROMPT} [assistant]", special=False, most=12)
    assert (found.tokens, found.answer) == (tokens, words)
    assert found.template == "the tokenizer's chat template"


def test_sampling_of_generation_config_is_not_followed(folder):
    once = smoke_folder(folder, max_new_tokens=6, device="cpu").answer
    change_json(
        folder / "generation_config.json", do_sample=True, temperature=5.0, num_beams=3, min_length=50
    )
    assert smoke_folder(folder, max_new_tokens=6, device="cpu").answer == once


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_model_is_loaded_in_the_dtype_that_is_stored(folder, dtype):
    """The model is loaded in the stored dtype, whatever config.json says."""

    def cast(weights):
        weights.update({name: value.to(getattr(torch, dtype)) for name, value in weights.items()})

    change_weights(folder, cast)
    assert smoke_folder(folder, max_new_tokens=1, device="cpu").dtype == dtype


def test_embeddings_that_are_tied_are_both_there(tmp_path):
    tied = tiny_models.make_tiny_base(tmp_path / "tied", vocab=VOCAB, tied=True)
    assert smoke_folder(tied, max_new_tokens=2, device="cpu").finite


def test_logits_that_are_not_finite_are_told(folder):
    def break_it(weights):
        weights["model.norm.weight"][3] = float("nan")

    change_weights(folder, break_it)
    found = smoke_folder(folder, device="cpu")
    assert (found.finite, found.tokens, found.answer, found.hints) == (False, 0, "", ())
    done = run_cli("smoke", folder, "--device", "cpu", "--json")
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])["finite"]) == (1, False)
    assert done.stderr == "The logits were not finite: these weights are broken.\n"


def test_one_token_again_and_again_is_a_hint(folder):
    change_weights(folder, lambda weights: weights["lm_head.weight"].zero_())
    found = smoke_folder(folder, max_new_tokens=10, device="cpu")
    assert found.hints == ("The answer is one token 10 times: these weights look broken.",)
    assert smoke_folder(folder, max_new_tokens=3, device="cpu").hints == (
        "The answer is empty: these weights may be broken, or were not trained to chat.",
    )


def test_terminal_is_not_steered_by_an_answer(folder):
    found = smoke_folder(folder, max_new_tokens=1, device="cpu")
    shown = type(found)(**{**vars(found), "answer": "a\x1b[2Jb\nc\r\x07"}).summary()
    assert "a\\x1b[2Jb\nc\\r\\x07\n" in shown


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def link_out(folder):
    (folder.parent / "elsewhere.txt").touch()
    (folder / "words.txt").symlink_to(folder.parent / "elsewhere.txt")


def grow_beyond_all_memory(folder):
    """Write a header and a hole, which look like a file of 8 TB."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**41], "data_offsets": [0, 2**43]}}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**43)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove("config.json"), r"There is no config\.json, so that nobody knows what model these weights are\."),
        (remove("tokenizer.json"), r"There is no tokenizer \(one of .*\), so the model cannot be asked\."),
        (remove("model.safetensors"), r"The result folder 'out' holds no weights; expected one of .*"),
        (safetensors_to_bin, r"These weights are bin files, and only safetensors are loaded\."),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"),
         r"There is an adapter_config\.json, which leads to another model; remove it\."),
        (link_out, r"'words\.txt' in out is a link out of the folder, which is not followed\."),
        (grow_beyond_all_memory, r"The weights take 8796\.09 GB of memory and about .* more are needed, but only .* are free here; "
         r"run smoke on a machine with more memory\."),
    ],
)  # fmt: skip
def test_folder_that_cannot_be_asked_is_refused(folder, change, sentence):
    change(folder)
    with pytest.raises(Refusal, match=f"^{sentence}$"):
        smoke_folder(folder)


def test_tokenizer_that_is_only_a_sentencepiece_model_is_read(folder):
    sentencepiece = pytest.importorskip(
        "sentencepiece", reason="reading a tokenizer.model needs sentencepiece"
    )
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    words = iter([f"{PROMPT} I am number {number}, said the <|assistant|>." for number in range(200)])
    with (folder / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=words, model_writer=file, vocab_size=50, minloglevel=2
        )
    found = smoke_folder(folder, prompt=PROMPT, max_new_tokens=5, device="cpu")
    assert (found.prompt, found.finite) == (PROMPT, True)
    assert found.tokens > 0


@pytest.mark.parametrize(
    "wish", [{"device": "tpu"}, {"max_new_tokens": 0}, {"max_new_tokens": 10**6}, {"prompt": " \n"}, {"prompt": "x" * 20_001}]
)  # fmt: skip
def test_wish_that_makes_no_sense_is_refused(folder, wish):
    with pytest.raises(Refusal):
        smoke_folder(folder, **wish)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: change_weights(folder, lambda weights: weights.pop("model.norm.weight")),
         r"The model needs model\.norm\.weight and 0 more tensors that the files lack\."),
        (lambda folder: change_json(folder / "config.json", vocab_size=VOCAB - 1), r"transformers could not .*"),
        (lambda folder: change_json(folder / "config.json", model_type="unheard_of"), r"transformers could not .*"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), r"transformers could not .*"),
        (lambda folder: change_json(folder / "tokenizer_config.json", chat_template="{{ raise_exception('no') }}"),
         r"transformers could not load the result, or make it answer: no\."),
        (lambda folder: tiny_models.write_tokenizer(folder, vocab=VOCAB + 1, added_rows=1),
         None),
    ],
)  # fmt: skip
def test_model_that_cannot_be_loaded_or_asked_is_a_failure_of_one_sentence(folder, change, sentence):
    change(folder)
    if sentence is None:  # a token that the embedding has no row for
        change_json(folder / "tokenizer_config.json", chat_template="[PAD]{{ messages[0]['content'] }}")
        sentence = rf"The tokenizer gives the token {VOCAB}, but the embedding has only {VOCAB} rows\."
    with pytest.raises(Failure, match=f"^{sentence}$"):
        smoke_folder(folder)


def test_tensor_that_the_model_does_not_use_is_a_hint(folder):
    change_weights(folder, lambda weights: weights.update({"value_head.weight": torch.zeros(2)}))
    hint = "The model does not use value_head.weight and 0 more tensors of the files."
    assert hint in smoke_folder(folder, max_new_tokens=2, device="cpu").hints


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_gpu_is_taken_where_there_is_one(folder):
    found = smoke_folder(folder, max_new_tokens=4)
    assert (found.device, found.tokens, found.finite) == ("cuda:0", 4, True)


class Hub(BaseHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    """Replace the Hub with a local server; return the paths that it was asked for."""
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    Hub.asked.clear()
    yield Hub.asked
    server.shutdown()
    server.server_close()


def test_no_code_of_the_folder_runs_and_nobody_is_asked_for_more(folder, hub):
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n")
    codes = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "ai/evil--evil.Evil"}
    change_json(
        folder / "config.json", auto_map=codes, _name_or_path="ai/evil", attn_implementation="ai/kernels"
    )
    change_json(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["evil.Evil", None]},
        name_or_path="ai/evil",
    )
    done = run_cli("smoke", folder, "--prompt", PROMPT, "--max-new-tokens", 5, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    last = json.loads(done.stdout.splitlines()[-1])
    names = ["prompt", "answer", "tokens", "seconds", "device", "dtype", "finite", "template", "hints"]
    assert (list(last), last["prompt"], last["tokens"], last["finite"]) == (names, PROMPT, 5, True)
    assert (hub, (folder / "ran").exists()) == ([], False)


def test_without_transformers_it_is_refused_with_the_way_to_install_it(folder, tmp_path):
    """If transformers is missing, the refusal says how to install it; all other packages are there."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(transformers.__file__).parents[1].iterdir():
        if not path.name.startswith("transformers"):
            (packages / path.name).symlink_to(path)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "model_ops.recovery", "smoke", str(folder)],
        env={"PYTHONPATH": f"{ROOT}:{packages}"}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "smoke needs transformers, which is not installed here: pip install 'transformers>=5.20,<6'.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_wherever_it_is(folder, number):
    command = [sys.executable, "-m", "model_ops.recovery", "smoke", str(folder), "--max-new-tokens", "4096"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not waits_for(child.pid, number):
        time.sleep(0.01)
    child.send_signal(number)
    out, errors = child.communicate(timeout=120)
    assert (child.returncode, out, errors) == (1, "", "The run was cancelled.\n")


def waits_for(pid, number):
    """Return whether the process has blocked this signal, so that its waiting thread gets it."""
    blocked = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigBlk")
    )
    return int(blocked.split()[1], 16) >> (number - 1) & 1


def test_nothing_else_in_the_product_imports_transformers():
    product = [path for folder in ("model_ops", "access_requests") for path in (ROOT / folder).rglob("*.py")]
    found = [path.name for path in product if {"import transformers", "from transformers"} & imports(path)]
    assert found == ["generate.py"]


def imports(path):
    return {" ".join(line.split()[:2]) for line in path.read_text().splitlines() if line.strip()}
