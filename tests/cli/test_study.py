"""`softprompt study`."""

from __future__ import annotations

import yaml


def test_a_grid_is_run_and_summarised(run, backbone, files, tmp_path):
    grid = {
        "backbones": [backbone],
        "tasks": {
            "films": {
                "train": files["train"],
                "validation": files["validation"],
                "input": "{text}",
                "target": "{label}",
                "label_words": {"0": "bad", "1": "good"},
                "validation_rows": 6,
            }
        },
        "methods": {
            "rows": {"method": "prompt_tuning", "length": [1, 2], "init": "vocab", "learning_rate": [0.01, 0.1]}
        },
        "run": {"optimizer": "adamw", "steps": 3, "batch_size": 4},
    }
    file = tmp_path / "lengths.yaml"
    file.write_text(yaml.safe_dump(grid), encoding="utf-8")
    asked = ("study", "--grid", str(file), "--output_dir", str(tmp_path / "out"), "--device", "cpu")
    code, out, err = run(*asked, "--seeds", "[4, 5]")
    assert code == 0, err
    assert "0 of 8 runs" in err
    head, _, *lines = out.splitlines()
    assert head.split()[:5] == ["backbone", "parameters", "task", "method", "length"]
    assert len(lines) == 2
    assert all(line.split()[5] in ("0.01", "0.1") for line in lines)
    assert len((tmp_path / "out" / "results.jsonl").read_text().splitlines()) == 8
    code, again, err = run(*asked, "--seeds", "[4, 5]", "--summary", "true")
    assert (code, again) == (0, out)
    code, partial, err = run(*asked, "--summary", "true")
    assert code == 0, err
    assert partial.splitlines()[2].split()[-1] == "6"  # the grid's own seeds, three, at two rates


def test_what_is_unknown_is_a_usage_error(run, tmp_path):
    code, _, err = run("study", "--grid", "backbone", "--output_dir", str(tmp_path))
    assert code == 2
    assert "Known: adaptation, backbones" in err
    code, _, err = run("study", "--grid", "backbones", "--output_dir", str(tmp_path))
    assert code == 2
    assert "data_dir" in err
