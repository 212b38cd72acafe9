//! What all products of one kind multiply: the same integers for us and for the peers.

use qcore::bits::{ByteRef, Encoding, PackedMatrix};
use qcore::isa::Isa;
use qcore::ops::{Activations, Epilogue, Gemm, Par};

use super::common::{Random, Shape, check_sums};

/// Integers, row-major: weights `[N, K]`, activations `[M, K]`.
pub struct Operands {
    pub shape: Shape,
    pub weights: Vec<i32>,
    pub activations: Vec<i32>,
}

impl Operands {
    /// Random weights of an encoding, and activations of another.
    pub fn new(shape: Shape, weight: Encoding, activation: Encoding) -> Self {
        let mut random = Random(shape.macs());
        Operands {
            shape,
            weights: random.packed(weight, shape.n, shape.k).unpack(),
            activations: random.packed(activation, shape.m, shape.k).unpack(),
        }
    }

    /// Activations that survive another quantization to 8 bits by blocks of 32 and more, each with its own scale
    /// by the largest magnitude: that is 127, once a block.
    pub fn with_full_blocks(mut self) -> Self {
        let k = self.shape.k;
        for row in self.activations.chunks_exact_mut(k) {
            for block in row.chunks_mut(32) {
                block.iter_mut().for_each(|v| *v = (*v).max(-127));
                block[0] = 127;
            }
        }
        self
    }

    /// Activations of 7 bits: sums of two products fit 16 bits, so that what saturates there is right too.
    pub fn with_seven_bits(mut self) -> Self {
        self.activations.iter_mut().for_each(|v| *v &= 127);
        self
    }
}

/// A product by qcore, planned.
pub struct Ours {
    gemm: Gemm,
    shape: Shape,
    activation: Encoding,
    planes: PackedMatrix,
    bytes: Option<Vec<u8>>,
    out: Vec<i32>,
    scratch: Vec<i32>,
}

impl Ours {
    /// Run once and checked against the integers.
    pub fn new(isa: Isa, weight: Encoding, activation: Encoding, operands: &Operands) -> Self {
        let Operands {
            shape,
            weights,
            activations,
        } = operands;
        let Shape { n, m, k } = *shape;
        let weights = PackedMatrix::pack(weight, n, k, weights).expect("weights of the encoding");
        let planes = PackedMatrix::pack(activation, m, k, activations).expect("activations of it");
        let gemm = Gemm::on(isa, weights.view(), activation, Epilogue::None).expect("a plan");
        let has_bytes = matches!(activation, Encoding::Unsigned(_) | Encoding::Signed(_));
        let by_bytes = has_bytes && gemm.scratch_len_bytes(m) <= gemm.scratch_len(m);
        let bytes = by_bytes.then(|| activations.iter().map(|&v| v as u8).collect());
        let scratch = match by_bytes {
            true => gemm.scratch_len_bytes(m),
            false => gemm.scratch_len(m),
        };
        let mut ours = Ours {
            gemm,
            shape: *shape,
            activation,
            planes,
            bytes,
            out: vec![0; m * n],
            scratch: vec![0; scratch],
        };
        ours.run();
        check_sums(&format!("{isa}"), *shape, &weights, &ours.planes, &ours.out);
        ours
    }

    pub fn run(&mut self) {
        let Shape { m, k, .. } = self.shape;
        let activations: Activations<'_> = match &self.bytes {
            Some(bytes) => ByteRef::new(self.activation, m, k, bytes)
                .expect("bytes")
                .into(),
            None => self.planes.view().into(),
        };
        let run = self.gemm.run_i32(
            activations,
            0..m,
            &mut self.out,
            &mut self.scratch,
            Par::Caller,
        );
        run.expect("what was checked when it was made");
    }

    pub fn out(&self) -> &[i32] {
        &self.out
    }

    pub fn weight_bytes(&self) -> usize {
        self.gemm.prepacked_bytes()
    }

    pub fn describe(&self) -> String {
        self.gemm.describe()
    }
}
