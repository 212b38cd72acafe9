//! A weight rule of one's own in a run.

use std::sync::Arc;

use super::Run;
use crate::train::rule::WeightRule;
use crate::train::update::Memories;

impl Run {
    /// Puts a rule of one's own in the place of the recipe's, for the step of quantized weights; `None` is the recipe's
    /// again. What the optimiser remembers is forgotten, so that the place for this is before the first step.
    ///
    /// If the recipe's rule is forward-backtrack, no step takes a second gradient then; what binary-relax does to the
    /// forward pass stays. Checkpoints do not hold the rule: [`Run::resume_by`] goes on with it.
    pub fn move_by(&mut self, own: Option<Arc<dyn WeightRule>>) {
        self.own = own;
        self.forget();
    }

    /// Makes the optimiser's memories anew.
    pub(super) fn forget(&mut self) {
        let rule = self.own.as_deref().unwrap_or(&self.recipe.rule);
        self.memories = Memories::new(&mut self.net, self.recipe.optimizer, rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::nn::activation::{Activate, AlphaLearning};
    use crate::nn::projected::Projected;
    use crate::ops::Par;
    use crate::quant::{ActQuantizer, QuantRelu, Rounding};
    use crate::train::recipe::{Optimizer, Recipe};
    use crate::train::rule::Rule;
    use crate::train::update::{Memory, Settings};

    /// A mean of gradients, along whose sign the weights go.
    #[derive(Debug)]
    struct Signs;

    impl WeightRule for Signs {
        fn memory(&self, len: usize, _: Optimizer) -> Memory {
            Memory {
                mean: vec![0.0; len],
                ..Memory::default()
            }
        }

        fn step(
            &self,
            weights: &mut Projected,
            memory: &mut Memory,
            settings: &Settings,
            _: Par<'_>,
        ) -> Result<()> {
            let (latent, gradient, _) = weights.parts();
            for ((w, g), mean) in latent.iter_mut().zip(gradient).zip(&mut memory.mean) {
                *mean = 0.9 * *mean + 0.1 * *g;
                *w -= settings.sgd.lr * mean.signum();
            }
            Ok(())
        }
    }

    const STEPS: usize = 3;

    fn recipe(rule: &str) -> Recipe {
        let text = format!(
            "arch = \"9\"\nbatch = 8\nfloat_epochs = 1\nepochs = 2\nmax_shift = 0\nrule = \"{rule}\""
        );
        Recipe::from_toml("a test", &text).unwrap()
    }

    fn new(rule: &str, own: Option<Arc<dyn WeightRule>>) -> Run {
        let mut run = Run::new(recipe(rule), [4, 4, 1], 2, 8 * STEPS).unwrap();
        run.move_by(own);
        run
    }

    /// An epoch, then the latent weights of the first layer.
    fn epoch(run: &mut Run) -> Vec<f32> {
        for i in 0..STEPS {
            let images: Vec<u8> = (0..128).map(|j| ((i * 128 + j) * 53 % 251) as u8).collect();
            run.step(&images, &[0, 1, 1, 0, 1, 0, 0, 1], Par::Caller)
                .unwrap();
        }
        run.end_epoch().unwrap();
        run.net().weights()[0].latent.clone()
    }

    #[test]
    fn a_rule_of_ones_own_moves_the_weights_and_resumes_bit_for_bit() {
        let own: Arc<dyn WeightRule> = Arc::new(Signs);
        let mut run = new("binary-connect", Some(own.clone()));
        let mut other = new("binary-connect", None);
        assert_eq!(epoch(&mut run), epoch(&mut other), "the float phase");
        let before = run.net().weights()[0].latent.clone();
        let after = epoch(&mut run);
        assert_ne!(after, epoch(&mut other));
        // Each step is the rate or none: STEPS of them, to this or that side.
        let lr = run.recipe().lr;
        for (a, b) in after.iter().zip(&before) {
            let steps = (a - b).abs() / lr;
            assert!(
                (steps - 1.0).abs() < 1e-3 || (steps - 3.0).abs() < 1e-3,
                "{steps}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        run.save(&path).unwrap();
        let mut again = Run::resume_by(&path, 8 * STEPS, Some(own)).unwrap();
        assert_eq!(epoch(&mut again), epoch(&mut run));
        assert!(
            Run::resume(&path, 8 * STEPS).is_err(),
            "its memories are others"
        );
    }

    /// A quantized ReLU whose coarse gradient is 1 everywhere.
    #[derive(Debug)]
    struct Through;

    impl Activate for Through {
        fn quantizer(&self, alpha: f32) -> Result<Option<ActQuantizer>> {
            QuantRelu::new(2, alpha, Rounding::Ceil).map(|relu| Some(ActQuantizer::Relu(relu)))
        }

        fn dx(&self, _: f32, _: f32) -> f32 {
            1.0
        }

        fn dalpha(&self, x: f32, _: f32) -> f32 {
            if x > 0.0 { 1.0 } else { 0.0 }
        }

        fn learning(&self) -> Option<AlphaLearning> {
            Some(AlphaLearning::default())
        }
    }

    #[test]
    fn an_activation_of_ones_own_trains_and_resumes_bit_for_bit() {
        let own: Arc<dyn Activate> = Arc::new(Through);
        let mut run = new("bcgd", None);
        run.net_mut().activate_by(Some(own.clone())).unwrap();
        let mut other = new("bcgd", None);
        assert_eq!(epoch(&mut run), epoch(&mut other), "the float phase");
        assert_ne!(epoch(&mut run), epoch(&mut other));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        run.save(&path).unwrap();
        let mut again = Run::resume(&path, 8 * STEPS).unwrap();
        again.net_mut().activate_by(Some(own)).unwrap();
        assert_eq!(epoch(&mut again), epoch(&mut run));
        assert_eq!(again.net_mut().state(), run.net_mut().state());
    }

    #[test]
    fn a_named_rule_as_ones_own_is_the_named_rule() {
        for rule in ["bcgd", "rounding", "bop"] {
            let named = recipe(rule).rule;
            let mut own = new(rule, Some(Arc::new(named)));
            let mut of_recipe = new(rule, None);
            for _ in 0..3 {
                assert_eq!(epoch(&mut own), epoch(&mut of_recipe), "{rule}");
            }
        }
        assert!(matches!(recipe("bop").rule, Rule::Bop { .. }));
    }
}
