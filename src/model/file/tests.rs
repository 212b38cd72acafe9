//! Files that are refused by name, and files made by somebody who means harm.

use half::slice::HalfBitsSliceExt;

use super::*;
use crate::bits::Encoding;
use crate::model::container::Data;
use crate::model::sample::{Random, sample};
use crate::model::tests::out_rows;
use crate::model::{Images, Kind, Mode};
use crate::ops::{OutRows, Par};

#[test]
fn files_that_are_not_models_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.qcore");
    sample(Encoding::Bipolar).save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(Model::load(&path).is_ok());
    let said = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Model::load(&path).err().expect("an error").to_string()
    };
    let file = path.display().to_string();
    for length in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(said(&bytes[..length]).starts_with(&format!("{file}: not a whole safetensors")));
    }
    assert!(said(b"\x89PNG\r\n\x1a\n and so on").contains("not a whole safetensors"));
    let other = Container::new("{}".to_string()).to_bytes(KIND, 3).unwrap();
    let expected = "it is a qcore 'model 3'; this call reads 'model 1' and 'model 2'";
    assert!(said(&other).contains(expected));
}

#[test]
fn a_description_that_disagrees_with_its_tensors_is_refused() {
    let said = |change: &dyn Fn(&mut Container)| {
        let mut c = sample(Encoding::unsigned(2).unwrap())
            .to_container()
            .unwrap();
        change(&mut c);
        let bytes = c.to_bytes(KIND, VERSION).unwrap();
        let read = Model::from_bytes(&bytes);
        read.err().expect("an error").to_string()
    };
    let replace = |from: &'static str, to: &'static str| {
        said(&move |c: &mut Container| {
            assert!(c.description.contains(from), "{}", c.description);
            c.description = c.description.replacen(from, to, 1);
        })
    };
    let said_of = |from, to, expected: &str| {
        let said = replace(from, to);
        assert!(said.contains(expected), "{said}");
    };
    said_of(
        "\"height\":5",
        "\"height\":10",
        "'nodes.1.weights' has shape",
    );
    said_of(
        "\"outputs\":40",
        "\"outputs\":41",
        "'nodes.1.weights' has shape",
    );
    said_of("\"linear\"", "\"lstm\"", "unknown variant `lstm`");
    said_of("\"u2\"", "\"u9\"", "encoding is u9 in node 1;");
    said_of("\"u8\"", "\"ternary\"", "image is 5 x 7 x 1 ternary bytes");
    said_of("\"image\"", "\"flatten\"", "the description: ");
    said_of("{", "", "the description: ");
    said_of("\"op\"", "\"do\"", "unknown field");
    said_of("\"outputs\":[3]", "\"outputs\":[4]", "value is 4");
    said_of("\"outputs\":[3]", "\"outputs\":[]", "outputs is 0");
    said_of("\"reads\":[0]", "\"reads\":[1]", "value is 1 in node 1;");
    said_of("\"reads\":[0]", "\"reads\":[]", "node 1: it reads 0 values");
    said_of(
        "\"reads\":[0]",
        "\"reads\":[0,0]",
        "node 1: it reads 2 values, not 1",
    );
    let gone = said(&|c| drop(c.tensors.remove("nodes.2.sign")));
    assert!(
        gone.contains("the tensor 'nodes.2.sign' is missing"),
        "{gone}"
    );
    let more = said(&|c| c.put("nodes.9.bias", &[1], Data::F32(vec![0.0])));
    assert!(more.contains("'nodes.9.bias' belongs to no node"), "{more}");
    let kind = said(&|c| c.put("nodes.1.sign", &[40], Data::F32(vec![1.0; 40])));
    assert!(
        kind.contains("'nodes.1.sign' is F32; expected I32"),
        "{kind}"
    );
    let zero = said(&|c| c.put("nodes.1.sign", &[40], Data::I32(vec![0; 40])));
    assert!(
        zero.contains("sign is 0 at 0 in node 1; expected -1 or +1"),
        "{zero}"
    );
    let tail = said(&|c| c.put("nodes.1.weights", &[40, 1, 2], Data::U32(vec![!0; 80])));
    assert!(tail.contains("bits set behind column 35"), "{tail}");
    let nan = said(&|c| c.put("nodes.3.scale", &[7], Data::F32(vec![f32::NAN; 7])));
    assert!(nan.contains("scale is NaN at 0 in node 3;"), "{nan}");
}

#[test]
fn no_byte_can_be_cut_off_or_flipped_unnoticed() {
    let model = sample(Encoding::Bipolar);
    let bytes = model.to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert!(Model::from_bytes(&bytes[..length]).is_err(), "{length}");
    }
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << (i % 8);
        // Spaces of the header are nobody's content.
        if let Ok(read) = Model::from_bytes(&damaged) {
            assert!(read.to_bytes().unwrap() == bytes, "byte {i}");
        }
    }
}

/// Changes one thing somewhere in `json`, and tells whether it did.
fn change(json: &mut serde_json::Value, random: &mut Random) {
    use serde_json::{Value, json};
    let numbers: [u64; 11] = [
        0,
        1,
        2,
        3,
        31,
        64,
        1023,
        1 << 16,
        1 << 20,
        (1 << 20) + 1,
        1 << 40,
    ];
    let words = [
        "u1",
        "u8",
        "s8",
        "s2",
        "ternary",
        "bipolar",
        "zero",
        "plus_one",
        "minus_one",
        "relu",
        "prelu",
        "rprelu",
        "before",
        "after",
        "f32",
        "f16",
        "bf16",
        "i32",
        "sign",
        "tensor",
        "channel",
        "ceil",
    ];
    match json {
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = &keys[random.below(keys.len())];
            match random.below(12) {
                0 => drop(map.remove(key)),
                _ => change(&mut map[key], random),
            }
        }
        Value::Array(all) if !all.is_empty() => {
            let at = random.below(all.len());
            match random.below(8) {
                0 => drop(all.remove(at)),
                1 => all.insert(at, all[at].clone()),
                _ => change(&mut all[at], random),
            }
        }
        Value::Number(_) => {
            *json = match random.below(16) {
                0 => json!(-1),
                1 => json!(u64::MAX),
                2 => json!(0.5),
                3 => json!(1e300),
                _ => json!(numbers[random.below(numbers.len())]),
            };
        }
        Value::String(_) => *json = json!(words[random.below(words.len())]),
        _ => *json = json!(true),
    }
}

/// Changes a tensor: its shape, its numbers or its being there.
fn change_tensor(container: &mut Container, random: &mut Random) {
    let names: Vec<String> = container.tensors.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = &names[random.below(names.len())];
    let odd = [0u32, 1, !0, 1 << 31, 0x7F80_0000, 0x7FC0_0000, 0x3F80_0000];
    let word = odd[random.below(odd.len())];
    let tensor = container.tensors.get_mut(name).unwrap();
    let len: usize = tensor.shape.iter().product();
    match random.below(4) {
        0 => drop(container.tensors.remove(name)),
        1 => tensor.shape = vec![len],
        _ if len > 0 => {
            let at = random.below(len);
            match &mut tensor.data {
                Data::U32(v) => v[at] = word,
                Data::I32(v) => v[at] = word as i32,
                Data::F32(v) => v[at] = f32::from_bits(word),
            }
        }
        _ => {}
    }
}

/// Runs one image of zeros, if that takes little memory.
fn run(model: &Model) {
    let input = model.input();
    let large = |t: &crate::model::ValueType| t.stored_len() > 1 << 20;
    let macs = model.describe().into_iter().map(|n| n.macs);
    let macs = macs.fold(0, u64::saturating_add);
    let needed = model.piece(1, 1).unwrap_or(usize::MAX);
    if large(&input) || needed > 1 << 22 || model.outputs().iter().any(large) || macs > 1 << 26 {
        return;
    }
    let words = vec![0u32; input.words(1)];
    let halves: &[u16] = &bytemuck::cast_slice(&words)[..input.len().min(2 * words.len())];
    let images = match input.kind {
        Kind::F32 => Images::Floats(bytemuck::cast_slice(&words)),
        Kind::F16 => Images::F16(halves.reinterpret_cast()),
        Kind::Bf16 => Images::Bf16(halves.reinterpret_cast()),
        _ => Images::Bytes(&bytemuck::cast_slice(&words)[..input.len()]),
    };
    let made = model.outputs().to_vec();
    let mut all: Vec<Vec<u32>> = made.iter().map(|m| vec![0; m.words(1)]).collect();
    let outs = all.iter_mut().zip(&made);
    let outs = outs.map(|(words, made)| out_rows(made, 1, words));
    let mut outs: Vec<OutRows<'_>> = outs.collect();
    let mut workspace = model.workspace(1, 1, Mode::Latency).unwrap();
    model
        .run_all(images, &mut outs, &mut workspace, Par::Caller)
        .unwrap();
}

#[test]
fn descriptions_and_tensors_of_ill_will_are_refused_or_run() {
    let mut random = Random(99);
    let (mut read, mut refused) = (0, 0);
    let graphs: Vec<Model> = (0..60)
        .map(|i| crate::model::tests::making::random_graph(&mut Random(i)))
        .collect();
    for round in 0..if cfg!(miri) { 5 } else { 3000 } {
        let mut container = graphs[round % graphs.len()].to_container().unwrap();
        let mut json = serde_json::from_str(&container.description).unwrap();
        for _ in 0..1 + random.below(3) {
            match random.below(4) {
                0 => change_tensor(&mut container, &mut random),
                _ => change(&mut json, &mut random),
            }
        }
        container.description = json.to_string();
        let Ok(bytes) = container.to_bytes(KIND, VERSION) else {
            continue;
        };
        match Model::from_bytes(&bytes) {
            Err(e) => {
                refused += 1;
                assert!(e.to_string().starts_with("the model's bytes: "), "{e}");
            }
            Ok(model) => {
                read += 1;
                run(&model);
            }
        }
    }
    assert!(
        cfg!(miri) || read > 100 && refused > 1000,
        "{read} {refused}"
    );
}

#[test]
fn a_file_that_says_more_than_it_holds_is_refused_before_memory_is_taken() {
    let said = |nodes: &str, outputs: &str| {
        let image =
            r#"{"op":{"image":{"height":4,"width":4,"channels":1,"elements":"u1"}},"reads":[]}"#;
        let description = format!(r#"{{"nodes":[{image},{nodes}],"outputs":[{outputs}]}}"#);
        let bytes = Container::new(description).to_bytes(KIND, VERSION).unwrap();
        let read = Model::from_bytes(&bytes);
        read.err().expect("an error").to_string()
    };
    let linear = r#"{"op":{"linear":{"outputs":1099511627776,"weights":"u8","finish":{"leaves":"i32"}}},"reads":[0]}"#;
    assert!(said(linear, "1").contains("'nodes.1.weights' is missing"));
    // Each doubles the image; all sizes in all are limited.
    let grow = r#"{"op":{"up_sample":{"factors":[1024,1024]}},"reads":[0]},{"op":{"up_sample":{"factors":[1024,1024]}},"reads":[1]}"#;
    let refused = said(grow, "2");
    assert!(
        refused.contains("height is 4194304 in node 2, up_sample"),
        "{refused}"
    );
    let wide = r#"{"op":{"up_sample":{"factors":[1024,1024]}},"reads":[0]},"#.repeat(300);
    let refused = said(wide.trim_end_matches(','), "2");
    assert!(refused.contains("heights and widths in all"), "{refused}");
    let refused = said(r#"{"op":"concat","reads":[0,0]}"#, "7");
    assert!(refused.contains("value is 7"), "{refused}");
    // A concatenation of concatenations: the channels end, not the memory.
    let mut all = String::new();
    for i in 0..30 {
        all += &format!(r#"{{"op":"concat","reads":[{i},{i}]}},"#);
    }
    let refused = said(all.trim_end_matches(','), "2");
    assert!(
        refused.contains("channels is 2097152 in node 21, concat"),
        "{refused}"
    );
}

#[test]
fn numbers_come_back_bit_for_bit() {
    use super::text::QuantizerText;
    use crate::quant::{Linear, QuantRelu, Quantizer, Rounding};
    let mut random = Random(5);
    for _ in 0..2000 {
        let bits = (random.below(1 << 23) | (30 + random.below(190)) << 23) as u32;
        let alpha = f32::from_bits(bits);
        if !(1e-30..=1e30).contains(&alpha) {
            continue;
        }
        let affine = Linear::affine("s5".parse().unwrap(), alpha, -3).unwrap();
        let quantizers: [Quantizer; 3] = [
            QuantRelu::new(3, alpha, Rounding::Nearest).unwrap().into(),
            Linear::symmetric(4, alpha).unwrap().into(),
            affine.into(),
        ];
        for quantizer in quantizers {
            let text = serde_json::to_string(&QuantizerText::from(&quantizer)).unwrap();
            let back: QuantizerText = serde_json::from_str(&text).unwrap();
            assert_eq!(back.quantizer().unwrap(), quantizer, "{text}");
        }
    }
}
