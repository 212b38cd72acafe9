//! The options of `qcore train`, and the recipe that they make.

use std::path::PathBuf;

use qcore::nn::net::Kind;
use qcore::nn::ste::{CoarseAlpha, CoarseX};
use qcore::nn::weight::WeightQuantizer;
use qcore::quant::Rounding;
use qcore::train::recipe::{Optimizer, Recipe, named};
use qcore::train::rule::Rule;
use qcore::train::schedule::Schedule;
use qcore::{Error, Result};

#[derive(clap::Args)]
pub struct Args {
    /// A recipe by name (see --list), or a TOML file; the options below change what it says
    #[arg(long, value_name = "NAME|FILE")]
    recipe: Option<String>,
    /// List the recipes that come with the tool, and end
    #[arg(long)]
    pub list: bool,
    /// Print the recipe that comes with the tool under this name, to copy and edit, and end
    #[arg(long, value_name = "NAME")]
    pub show: Option<String>,
    /// Folder of IDX files (MNIST's names, plain or .gz) or of CIFAR-10's binary files; the built-in digits if absent
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Blocks before the last layer: a name as sfc (three linear layers of 256) or lenet5, or as in 32c5-mp2-512
    #[arg(long)]
    arch: Option<String>,
    /// Bits of a weight: 1 to 8, or 32 for floats
    #[arg(long, value_name = "BITS")]
    bits_w: Option<usize>,
    /// Bits of an activation: 1 to 8, or 32 for floats
    #[arg(long, value_name = "BITS")]
    bits_a: Option<usize>,
    /// Hidden activation: relu, or with 1 bit sign, or rsign (the sign with shifts that are learned)
    #[arg(long, value_parser = one_of([("relu", Kind::Relu), ("sign", Kind::Sign), ("rsign", Kind::RSign)]))]
    activation: Option<Kind>,
    /// Where the steps of the quantized ReLU lie: ceil or nearest; nearest for 1 bit, else ceil, if absent
    #[arg(long, value_parser = one_of([("ceil", Rounding::Ceil), ("nearest", Rounding::Nearest)]))]
    rounding: Option<Rounding>,
    /// Weight rule: bcgd (blended coarse gradient descent), binary-connect, binary-relax, rounding, loss-aware,
    /// forward-backtrack or bop; with numbers of its own as in forward-backtrack:a=0.9,period=3
    #[arg(long, value_name = "RULE")]
    rule: Option<Rule>,
    /// Quantizer of weights, as binary-mean or uniform-sym:bits=4,sweeps=2; that of --bits-w if absent
    #[arg(long, value_name = "QUANTIZER")]
    weights: Option<WeightQuantizer>,
    /// Base optimiser: sgd or adam
    #[arg(long, value_parser = one_of([("sgd", Optimizer::Sgd), ("adam", Optimizer::Adam)]))]
    optimizer: Option<Optimizer>,
    /// Coarse gradient of activations: clipped-relu, relu, identity, log-tailed or reverse-exp; of signs hard-tanh,
    /// piecewise-poly or identity
    #[arg(long, value_parser = one_of(CoarseX::ALL.map(|c| (c.name(), c))), value_name = "NAME")]
    coarse_x: Option<CoarseX>,
    /// Coarse gradient by the step alpha of activations: alpha-three, alpha-ae, alpha-two, alpha-min or alpha-lsq
    #[arg(long, value_parser = one_of(CoarseAlpha::ALL.map(|c| (c.name(), c))), value_name = "NAME")]
    coarse_alpha: Option<CoarseAlpha>,
    /// Log how the quantized net and the weights of each layer behave
    #[arg(long)]
    diagnostics: bool,
    /// Blending of bcgd, 0 to 1; 0 is binary-connect
    #[arg(long)]
    rho: Option<f32>,
    /// Epochs in floats that come first; 0 for none
    #[arg(long, value_name = "N")]
    float_epochs: Option<usize>,
    /// Epochs of the quantized net
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// So many epochs in all: those of the recipe, with its schedule, scaled to fit
    #[arg(long, value_name = "N", conflicts_with_all = ["float_epochs", "epochs", "milestones"])]
    shorten: Option<usize>,
    /// Images in a batch
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learning rate at the start of each phase
    #[arg(long)]
    pub lr: Option<f32>,
    /// Epochs of a phase after which the rate falls by --gamma, as in 80,140; a half cosine if absent
    #[arg(long, value_delimiter = ',', value_name = "N,N")]
    milestones: Option<Vec<usize>>,
    /// Factor of the rate at each milestone
    #[arg(long, default_value_t = 0.1, requires = "milestones")]
    gamma: f32,
    /// Momentum, 0 to below 1
    #[arg(long)]
    momentum: Option<f32>,
    /// Weight decay
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Pixels by which training images are shifted at most
    #[arg(long, value_name = "PIXELS")]
    max_shift: Option<usize>,
    /// Seed of weights, order, shifts and of the built-in digits; the recipe's if absent
    #[arg(long)]
    seed: Option<u64>,
    /// Train with each of these seeds, in a folder seed-N of the output folder each, and tell mean and spread
    #[arg(long, value_delimiter = ',', value_name = "N,N", conflicts_with_all = ["seed", "resume"])]
    pub seeds: Vec<u64>,
    /// Threads; 0 takes one a processor
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Folder for model.safetensors, checkpoint.safetensors, log.jsonl and curves.svg
    #[arg(long, default_value = "qcore-out", value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from a checkpoint, with its recipe; of the other options only --lr, --data, --threads and --out count
    #[arg(long, value_name = "CHECKPOINT")]
    pub resume: Option<PathBuf>,
}

/// A parser of one of a few names.
fn one_of<T: Clone + Send + Sync + 'static, const N: usize>(
    names: [(&'static str, T); N],
) -> impl Fn(&str) -> std::result::Result<T, String> + Clone {
    move |name| {
        let found = names.iter().find(|(n, _)| *n == name);
        let all = || names.each_ref().map(|(n, _)| *n).join(" or ");
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| format!("expected {}", all()))
    }
}

/// The recipe of the options: those that were given, over the named recipe or the defaults.
pub fn recipe(args: &Args) -> Result<Recipe> {
    let mut r = match &args.recipe {
        Some(name) => named::load(name)?,
        None => Recipe::default(),
    };
    r.seed = args.seed.unwrap_or(r.seed);
    let set = |to: &mut usize, from: Option<usize>| *to = from.unwrap_or(*to);
    set(&mut r.bits_w, args.bits_w);
    set(&mut r.bits_a, args.bits_a);
    set(&mut r.float_epochs, args.float_epochs);
    set(&mut r.epochs, args.epochs);
    set(&mut r.batch, args.batch);
    set(&mut r.max_shift, args.max_shift);
    let set = |to: &mut f32, from: Option<f32>| *to = from.unwrap_or(*to);
    set(&mut r.lr, args.lr);
    set(&mut r.momentum, args.momentum);
    set(&mut r.weight_decay, args.weight_decay);
    r.arch = args.arch.clone().unwrap_or(r.arch);
    r.activation = args.activation.unwrap_or(r.activation);
    r.rounding = args.rounding.or(r.rounding);
    if let Some(milestones) = args.milestones.clone() {
        r.schedule = Schedule::MultiStep {
            milestones,
            gamma: args.gamma,
        };
    }
    r.weights = args.weights.clone().or(r.weights);
    r.optimizer = args.optimizer.unwrap_or(r.optimizer);
    r.coarse_x = args.coarse_x.or(r.coarse_x);
    r.coarse_alpha = args.coarse_alpha.unwrap_or(r.coarse_alpha);
    r.diagnostics |= args.diagnostics;
    r.rule = match (args.rule.unwrap_or(r.rule), args.rho) {
        (rule, None) => rule,
        (Rule::Bcgd { .. }, Some(rho)) => Rule::Bcgd { rho },
        (_, Some(rho)) => {
            let expected = "nothing beside a rule other than bcgd";
            return Err(Error::argument("--rho", rho, expected));
        }
    };
    // What the options leave of the named recipe; what they say themselves is to count.
    let given = |name: &str| match name {
        "bits_w" => args.bits_w.is_some(),
        "weights" => args.weights.is_some(),
        "rounding" => args.rounding.is_some(),
        "rule" => args.rule.is_some() || args.rho.is_some(),
        "coarse_x" => args.coarse_x.is_some(),
        "coarse_alpha" => args.coarse_alpha.is_some(),
        "momentum" => args.momentum.is_some(),
        _ => false,
    };
    let r = r.changed(&given)?;
    match args.shorten {
        None => Ok(r),
        Some(epochs) => r.shortened(epochs),
    }
}
