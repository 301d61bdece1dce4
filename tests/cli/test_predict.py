"""`softprompt predict`, on a tiny backbone."""

from __future__ import annotations

import io
import json

import pytest

from softprompt.prompts import SoftPrompt


def test_predicting_keeps_order_and_goes_on_where_it_stopped(run, trained, backbone, tmp_path):
    texts = ["the film was very good", "the song was so long and sad", "the book was boring"]
    source, whole, part = tmp_path / "in.txt", tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    source.write_text("".join(f"{text}\n" for text in texts))
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"),
              "--input", str(source))  # fmt: skip
    assert run(*common, "--output", str(whole))[0] == 0
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [row["input"] for row in rows] == texts
    assert all(row["output"] in ("bad", "good") for row in rows)
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1)

    part.write_text(whole.read_text().splitlines(keepends=True)[0] + '{"input": "half a li')
    beside = tmp_path / "whole.jsonl.settings.json"
    (tmp_path / "part.jsonl.settings.json").write_text(beside.read_text())
    assert run(*common, "--output", str(part))[0] == 0
    again = [json.loads(line) for line in part.read_text().splitlines()]
    assert [(row["input"], row["output"]) for row in again] == [(row["input"], row["output"]) for row in rows]


def test_predicting_goes_on_only_behind_answers_to_the_same_question(run, trained, backbone, tmp_path):
    """Whatever lines the output had were counted as answered: to other inputs, by another prompt, in another way."""
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("the film was good\nthe book was bad\n")
    common = ("predict", "--backbone", backbone, "--input", str(source), "--output", str(output))
    prompt = ("--prompt", str(trained / "prompts" / "film"))
    assert run(*common, *prompt)[0] == 0
    answers = output.read_text()
    remedy = "choose another output, or remove it.\n"

    def refused(*arguments: str) -> str:
        code, _, err = run(*common, *arguments)
        assert code == 2, err
        assert err.endswith(remedy)
        return err.splitlines()[-1].removeprefix(f"softprompt: {output}").removesuffix("; " + remedy.strip())

    assert refused() == " holds answers that were made with another prompt and format"
    asked = refused(*prompt, "--by", "generate", "--num_beams", "2")
    assert asked == " holds answers that were made with another by and num_beams"
    assert refused(*prompt, "--dtype", "bfloat16") == " holds answers that were made with another dtype"
    source.write_text("the film was good\nthe song was bad\n")
    assert refused(*prompt) == f":2 answers another input than {source}:2"
    source.write_text("the film was good\n")
    assert refused(*prompt) == ":2 answers more than there are inputs"
    assert output.read_text() == answers
    output.write_text("no answer\n")
    assert refused(*prompt) == ":1 is no answer"
    (tmp_path / "out.jsonl.settings.json").unlink()
    unknown = " exists, but out.jsonl.settings.json beside it does not say what it was made with"
    assert refused(*prompt) == unknown
    output.write_text("a note without a line's end")
    assert refused(*prompt) == unknown, "it was taken for a torn answer, and cut off"
    assert output.read_text() == "a note without a line's end"


def test_inputs_that_cannot_be_answered(run, trained, backbone, tmp_path):
    """A blank line stopped a prediction without file and line, bytes that are no UTF-8 with a traceback."""
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    long = "the film was good " * 40
    source.write_bytes(f"the film was good\n \n{long}\n".encode() + b"caf\xe9\nthe book was bad\n\n")
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"), "--input", str(source),
              "--output", str(output))  # fmt: skip
    code, _, err = run(*common)
    assert code == 1
    assert err.splitlines()[-1] == (
        f"softprompt: {source}:2: the input is empty; give it a text. To write bad inputs down with their error and go "
        "on, give --on-bad-row=skip."
    )
    code, _, err = run(*common, "--on-bad-row=skip")
    assert code == 0, err
    assert err.splitlines()[-1] == "4 bad inputs have an error instead of an output."
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["input"] for row in rows] == ["the film was good", " ", long, "caf\ufffd", "the book was bad", ""]
    assert [row["output"] is None for row in rows] == [False, True, True, True, False, True]
    errors = [row["error"] for row in rows if "error" in row]
    assert "tokens, but only" in errors[1]
    assert errors[2] == "is not valid UTF-8; save the file as UTF-8"
    whole = output.read_text()
    output.write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert run(*common, "--on-bad-row=skip")[0] == 0
    assert [json.loads(line)["input"] for line in output.read_text().splitlines()] == [row["input"] for row in rows]


def test_predicting_from_every_kind_of_file(run, trained, backbone, tmp_path, monkeypatch):
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"))
    csv = tmp_path / "in.csv"
    csv.write_text('id,text\n1,"the film, was good"\n2,the book was bad\n')
    code, out, err = run(*common, "--input", str(csv))
    assert code == 0, err
    assert [json.loads(line)["input"] for line in out.splitlines()] == [
        {"id": "1", "text": "the film, was good"},
        {"id": "2", "text": "the book was bad"},
    ]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "the film was good"}\n{"txt": ""}\n')))
    code, out, err = run(*common, "--format", "rows", "--on-bad-row", "skip")
    assert code == 0, err
    assert json.loads(out.splitlines()[1])["error"] == "column 'text' is missing; the row has 'txt'"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the film was good\n")))
    code, out, err = run(*common)
    assert code == 0, err
    assert json.loads(out)["input"] == "the film was good"
    code, _, err = run(*common, "--input", str(tmp_path / "none.txt"))
    assert code == 1
    assert err.splitlines()[-1] == f"softprompt: There is no file {tmp_path}/none.txt; check the path."


def test_predicting_columns_to_standard_output(run, trained, backbone, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "the film was good"}\n{"text": "the book was bad"}\n')
    common = ("predict", "--backbone", backbone, "--prompt", str(trained / "prompts" / "film"),
              "--input", str(source), "--by", "generate", "--max_new_tokens", "3")  # fmt: skip
    code, out, err = run(*common)
    assert code == 0, err
    assert [json.loads(line)["input"]["text"] for line in out.splitlines()] == ["the film was good", "the book was bad"]
    assert "probabilities" not in out
    source.write_text('{"text": "the film was good"}\n["no object"]\n')
    code, _, err = run(*common)
    assert code == 1
    assert f"softprompt: {source}:2: holds a JSON list; write one object per line" in err.splitlines()[-1]


def test_ranking_needs_label_words(run, backbone):
    code, _, err = run("predict", "--backbone", backbone, "--by", "rank")
    assert code == 2
    assert err == "softprompt: --by rank needs a prompt that was trained with label words.\n"


def test_a_prompt_of_several_tasks_does_not_guess_their_template(run, trained, backbone, tmp_path):
    """It took inputs as they came, without the words that every training row had."""
    source = tmp_path / "in.txt"
    source.write_text("the film was good\n")
    prompt = SoftPrompt.load(trained / "prompts" / "film")
    prompt.with_info(format=None, run={"tasks": [{"task": "first"}, {"task": "second"}]}).save(tmp_path / "both")
    asked = ("predict", "--backbone", backbone, "--prompt", str(tmp_path / "both"), "--input", str(source))
    code, out, err = run(*asked)
    assert (code, out) == (2, "")
    assert "The prompt learned first, second, and no template of them all is stored with it; write the inp" in err
    code, out, err = run(*asked, "--raw", "true", "--max-new-tokens", "2")
    assert code == 0, err
    assert json.loads(out)["input"] == "the film was good"
