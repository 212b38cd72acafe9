//! `qcore inspect`: a packed model, layer by layer.

use std::path::PathBuf;

use qcore::Result;
use qcore::model::Model;

use crate::out;
use crate::table::{Table, bytes};

#[derive(clap::Args)]
pub struct Args {
    /// The model file
    model: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let model = Model::load(&args.model)?;
    let outputs: Vec<String> = model.outputs().iter().map(|o| o.to_string()).collect();
    out!(
        "{}: {} to {}; values take {} for an image",
        args.model.display(),
        model.input(),
        outputs.join(", "),
        bytes(model.peak_bytes(1))
    );
    let heading = [
        "node", "op", "reads", "shape", "works on", "gives", "MAC", "packed", "as f32", "kernel",
    ];
    let mut table = Table::new(&heading);
    for (i, row) in model.describe().into_iter().enumerate() {
        let reads: Vec<String> = row.reads.iter().map(usize::to_string).collect();
        let op = match row.name.as_str() {
            "" => row.op.to_string(),
            name => format!("{} {name}", row.op),
        };
        table.row(vec![
            i.to_string(),
            op,
            reads.join(" "),
            row.shape,
            row.bits,
            row.made.to_string(),
            row.macs.to_string(),
            bytes(row.packed_bytes),
            bytes(row.float_bytes),
            row.kernel,
        ]);
    }
    out::text(table);
    let (packed, float) = model.bytes();
    let smaller = match packed {
        0 => String::new(),
        _ => format!(": {:.1} times smaller", float as f64 / packed as f64),
    };
    out!(
        "in all {} packed, {} as f32{smaller}",
        bytes(packed),
        bytes(float)
    );
    Ok(())
}
