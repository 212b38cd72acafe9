//! `qcore train` from outside: recipes, interrupts, runs that diverge.

use std::path::Path;
use std::process::Command;

use super::{idx_folder, names, ok, path, refused, small, tool};
use qcore::train::Trainer;
use qcore::train::data::load_folder;
use qcore::train::recipe::named::NAMED;
use tempfile::TempDir;

#[test]
fn recipes_are_listed_shown_and_run_from_a_file() {
    let listed = ok(&["train", "--list"]);
    for line in ["lenet5-bcgd  ", "default  "] {
        assert!(listed.contains(line), "{listed}");
    }
    for named in NAMED {
        assert!(listed.contains(&format!("\n{} ", named.name)) || listed.starts_with(named.name));
    }
    let long = listed.lines().find(|l| l.chars().count() > 100);
    assert_eq!(long, None, "a line of the list does not fit");
    let shown = ok(&["train", "--show", "lenet5-packed"]);
    assert!(shown.contains("arch = \"lenet5\""));
    refused(&["train", "--show", "lenet"], &["recipe is 'lenet'"]);

    let (data, out) = (idx_folder(), tempfile::tempdir().unwrap());
    let file = out.path().join("mine.toml");
    let text = shown.replace("= 10 ", "= 1 ") + "\nseed = 4\n";
    let edited = text
        .replace("float_epochs = 10", "float_epochs = 1")
        .replace("\nepochs = 40", "\nepochs = 2")
        .replace("\"lenet5\"", "\"4c5s2-mp2-16\"");
    std::fs::write(&file, &edited).unwrap();
    let said = ok(&[
        "train",
        "--recipe",
        path(&file),
        "--data",
        path(data.path()),
        "--out",
        path(out.path()),
        "--batch",
        "60",
    ]);
    assert!(said.contains("bit for bit"), "{said}");
    let log = std::fs::read_to_string(out.path().join("log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let recipe = &lines[0]["recipe"];
    assert_eq!((&recipe["batch"], &recipe["seed"]), (&60.into(), &4.into()));
    let layers: Vec<_> = lines.iter().filter(|l| l["layer"].is_string()).collect();
    assert_eq!(layers.len(), 2 * 3, "three layers in two quantized epochs");
    assert!(layers.iter().all(|l| l["flip_ratio"].is_number()));
    let nets: Vec<_> = lines
        .iter()
        .filter(|l| l["loss_rises"].is_number())
        .collect();
    assert_eq!(nets.len(), 2, "one in each quantized epoch");
    for name in [
        "states",
        "recurring",
        "most_visited",
        "best_visited",
        "coarse_cosine",
    ] {
        assert!(nets.iter().all(|n| n[name].is_number()), "{name}");
    }
    let said = ok(&["inspect", path(&out.path().join("model.safetensors"))]);
    assert!(said.contains("conv"), "{said}");

    std::fs::write(&file, edited.replace("max_shift", "max_shfit")).unwrap();
    refused(
        &["train", "--recipe", path(&file)],
        &["mine.toml: line", "did you mean max_shift?"],
    );
}

#[test]
fn rules_take_numbers_and_alpha_a_gradient() {
    let (data, out) = (idx_folder(), tempfile::tempdir().unwrap());
    let mut args = small(data.path(), out.path());
    args.extend(["--rule", "forward-backtrack:a=0.9,period=2"]);
    args.extend(["--optimizer", "adam", "--lr", "0.001"]);
    args.extend(["--coarse-alpha", "alpha-lsq"]);
    ok(&args);
    let log = std::fs::read_to_string(out.path().join("log.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let recipe = &line["recipe"];
    assert_eq!(recipe["rule"]["kind"], "forward-backtrack");
    let a = recipe["rule"]["a"].as_f64().unwrap();
    assert_eq!((a as f32, &recipe["rule"]["period"]), (0.9, &2.into()));
    assert_eq!(recipe["coarse_alpha"], "alpha-lsq");
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_the_resumed_run_ends_as_if_there_had_been_none() {
    let data = idx_folder();
    let folder = || tempfile::tempdir().unwrap();
    let (whole, broken, resumed) = (folder(), folder(), folder());
    let args = |out: &TempDir| -> Vec<String> {
        let options = "--arch 24 --float-epochs 2 --epochs 300 --batch 50 --bits-a 2 --threads 1";
        let mut args = vec!["train".to_string()];
        args.extend(options.split(' ').map(String::from));
        for (name, dir) in [("--data", data.path()), ("--out", out.path())] {
            args.extend([name.to_string(), path(dir).to_string()]);
        }
        args
    };
    assert!(tool().args(args(&whole)).output().unwrap().status.success());

    let mut child = tool()
        .args(args(&broken))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let log = broken.path().join("log.jsonl");
    let lines = || std::fs::read_to_string(&log).map_or(0, |log| log.lines().count());
    while lines() < 5 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(
        names(broken.path()),
        ["checkpoint.safetensors", "log.jsonl"]
    );

    let checkpoint = broken.path().join("checkpoint.safetensors");
    let (d, o) = (path(data.path()), path(resumed.path()));
    let resume = [
        "train",
        "--data",
        d,
        "--out",
        o,
        "--resume",
        path(&checkpoint),
    ];
    ok(&resume);
    for name in ["model.safetensors", "checkpoint.safetensors"] {
        let bytes = |dir: &TempDir| std::fs::read(dir.path().join(name)).unwrap();
        assert!(bytes(&whole) == bytes(&resumed), "{name}");
    }
}

#[test]
fn a_net_that_does_not_pack_says_which_layer_and_why() {
    let (data, out) = (idx_folder(), tempfile::tempdir().unwrap());
    let mut args = small(data.path(), out.path());
    args.extend(["--arch", "4c3s2-ap7-4c1g2-8", "--bits-a", "4"]);
    args.retain(|a| *a != "32-32");
    let first = args.iter().position(|a| *a == "--arch").unwrap();
    args.remove(first);
    let said = ok(&args);
    let why = "no packed model: the net is not packed: layer 4 (convolution) multiplies floats in 2 groups, which come from \
               layer 3 (pooling) of more levels than 8 bits have";
    assert!(said.contains(why), "{said}");
    assert!(!out.path().join("model.safetensors").exists());
}

#[test]
fn a_run_that_diverges_keeps_the_last_good_checkpoint_and_names_the_layer() {
    let (data, out) = (idx_folder(), tempfile::tempdir().unwrap());
    let mut args = small(data.path(), out.path());
    args.extend(["--lr", "1e30"]);
    refused(
        &args,
        &["the loss is", "at epoch 1, step", "come from layer"],
    );
    let checkpoint = out.path().join("checkpoint.safetensors");
    let again = tempfile::tempdir().unwrap();
    let (d, o) = (path(data.path()), path(again.path()));
    let resume = [
        "train",
        "--data",
        d,
        "--out",
        o,
        "--resume",
        path(&checkpoint),
    ];
    refused(&resume, &["the loss is"]);
}

#[test]
fn a_run_that_diverges_later_goes_on_from_its_last_finite_epoch_with_a_smaller_rate() {
    let (data, out) = (idx_folder(), tempfile::tempdir().unwrap());
    let (d, o) = (path(data.path()), path(out.path()));
    let file = out.path().join("wild.toml");
    for (wild, epoch) in [
        (
            "lr = 1e25\nactivation = \"sign\"\nbits_a = 1\noptimizer = \"adam\"",
            2,
        ),
        ("lr = 1e30", 2),
    ] {
        let text = "arch = \"16-16\"\nfloat_epochs = 2\nepochs = 2\nbatch = 50\nfloat_lr = 0.01\nweight_decay = 0\n";
        std::fs::write(&file, format!("{text}{wild}\n")).unwrap();
        let args = ["train", "--data", d, "--out", o, "--recipe", path(&file)];
        let kept = format!("has the run as it was after epoch {epoch}");
        refused(&args, &["at epoch 3, step", "come from layer", &kept]);
        let checkpoint = out.path().join("checkpoint.safetensors");
        let numbers = std::fs::read(&checkpoint).unwrap();
        let data = load_folder(data.path()).unwrap();
        let mut trainer = Trainer::resume(&checkpoint, &data).unwrap();
        assert_eq!(trainer.done(), epoch);
        assert!(trainer.to_bytes().unwrap() == numbers);
        let again = tempfile::tempdir().unwrap();
        let mut resume = vec!["train", "--data", d, "--out", path(again.path())];
        resume.extend(["--resume", path(&checkpoint)]);
        refused(&resume, &["at epoch 3, step"]);
        resume.extend(["--lr", "0.01"]);
        ok(&resume);
        assert!(again.path().join("model.safetensors").exists());
        assert!(
            std::fs::read_to_string(again.path().join("log.jsonl"))
                .unwrap()
                .contains("\"epoch\":4")
        );
    }
}

#[test]
fn several_seeds_give_a_line_each_and_one_for_all() {
    let (data, out) = (idx_folder(), tempfile::tempdir().unwrap());
    let (d, o) = (path(data.path()), path(out.path()));
    let common = ["train", "--data", d, "--arch", "16", "--batch", "50"];
    let mut args = common.to_vec();
    args.extend(["--shorten", "3", "--seeds", "4,2", "--out", o]);
    let said = ok(&args);
    assert!(
        said.contains("2 seeds: ") && said.contains("standard deviation"),
        "{said}"
    );
    assert_eq!(names(out.path()), ["seed-2", "seed-4", "seeds.jsonl"]);
    let text = std::fs::read_to_string(out.path().join("seeds.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    let accuracy = |i: usize| lines[i]["test_accuracy"].as_f64().unwrap();
    assert_eq!(
        (&lines[0]["seed"], &lines[0]["epochs"]),
        (&4.into(), &3.into())
    );
    let (mean, spread) = (&lines[2]["mean"], &lines[2]["spread"]);
    assert!((mean.as_f64().unwrap() - 0.5 * (accuracy(0) + accuracy(1))).abs() < 1e-12);
    let gap = (accuracy(0) - accuracy(1)).abs() / 2f64.sqrt();
    assert!((spread.as_f64().unwrap() - gap).abs() < 1e-12);

    // A seed of several is that seed alone.
    let alone = tempfile::tempdir().unwrap();
    let mut args = common.to_vec();
    args.extend(["--shorten", "3", "--seed", "2", "--out", path(alone.path())]);
    ok(&args);
    let bytes = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(bytes(&out.path().join("seed-2")) == bytes(alone.path()));

    let twice = ["train", "--data", d, "--seeds", "1,1", "--out", o];
    refused(&twice, &["seeds that differ"]);
    let short = ["train", "--data", d, "--shorten", "1", "--out", o];
    refused(&short, &["epochs in all is 1"]);
}
