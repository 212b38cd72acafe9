//! `qcore inspect`: a packed model, layer by layer.

use std::path::PathBuf;

use qcore::Result;
use qcore::model::Model;

use crate::table::{Table, bytes};

#[derive(clap::Args)]
pub struct Args {
    /// The model file
    model: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let model = Model::load(&args.model)?;
    let input = model.input();
    println!(
        "{}: {} x {} x {} codes of {} bits to {} logits",
        args.model.display(),
        input.height,
        input.width,
        input.channels,
        input.bits,
        model.outputs()
    );
    let heading = [
        "layer",
        "op",
        "N x K",
        "weights x activations",
        "gives",
        "packed",
        "as f32",
        "kernel",
    ];
    let mut table = Table::new(&heading);
    for (i, row) in model.describe().into_iter().enumerate() {
        table.row(vec![
            i.to_string(),
            row.op.to_string(),
            row.shape,
            row.bits,
            row.leaves,
            bytes(row.packed_bytes),
            bytes(row.float_bytes),
            row.kernel,
        ]);
    }
    print!("{table}");
    let (packed, float) = model.bytes();
    let ratio = float as f64 / packed as f64;
    println!(
        "in all {} packed, {} as f32: {ratio:.1} times smaller",
        bytes(packed),
        bytes(float)
    );
    Ok(())
}
