//! A strided matrix that several threads write at once, each its own rectangle.
//!
//! A [`MatMut`] is to a matrix what `&mut [T]` is to a vector: it can only be split, never copied, so
//! two of them never overlap. That is why the operations can hand rectangles of one result to many
//! threads without a word of `unsafe`.

use std::marker::PhantomData;

use crate::error::Result;
use crate::shape::{check_len, elements};

/// An exclusive view of `rows` x `cols` elements, `stride` elements from row to row.
#[derive(Debug)]
pub(crate) struct MatMut<'a, T> {
    ptr: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a MatMut is an exclusive borrow of elements that no other view holds (`new` takes an
// exclusive slice, `split_*` consume the view), so sending it is sending a `&mut [T]`.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// All of `data` as `[rows, cols]`; errors under the name `name` if the length differs.
    pub(crate) fn new(
        name: &'static str,
        data: &'a mut [T],
        rows: usize,
        cols: usize,
    ) -> Result<Self> {
        let len = elements(name, &[rows, cols])?;
        check_len(name, data.len(), len, "rows x N")?;
        Ok(MatMut {
            ptr: data.as_mut_ptr(),
            rows,
            cols,
            stride: cols,
            life: PhantomData,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The first element; valid for `cols` elements at each of `rows` steps of `stride`.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }

    /// This view for a shorter time.
    pub(crate) fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut {
            life: PhantomData,
            ..*self
        }
    }

    /// Rows before `at`, and the rest.
    pub(crate) fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "row {at} of {}", self.rows);
        // An empty part must not point behind the allocation, so it stays at the start.
        let step = if at == self.rows { 0 } else { at * self.stride };
        let below = MatMut {
            // SAFETY: row `at` exists or the step is 0, so the sum stays inside the slice given to `new`.
            ptr: unsafe { self.ptr.add(step) },
            rows: self.rows - at,
            ..self
        };
        (MatMut { rows: at, ..self }, below)
    }

    /// Columns before `at`, and the rest.
    pub(crate) fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols, "column {at} of {}", self.cols);
        let step = if at == self.cols || self.rows == 0 {
            0
        } else {
            at
        };
        let right = MatMut {
            // SAFETY: column `at` of row 0 exists or the step is 0, so the sum stays inside the slice.
            ptr: unsafe { self.ptr.add(step) },
            cols: self.cols - at,
            ..self
        };
        (MatMut { cols: at, ..self }, right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(mut m: MatMut<'_, u32>, with: u32) {
        for r in 0..m.rows() {
            for c in 0..m.cols() {
                // SAFETY: r and c are inside the view.
                unsafe { *m.as_mut_ptr().add(r * m.stride() + c) = with };
            }
        }
    }

    #[test]
    fn rectangles_cover_the_matrix_without_overlap() {
        for (rows, cols, r, c) in [
            (3, 5, 1, 2),
            (3, 5, 0, 5),
            (3, 5, 3, 0),
            (0, 4, 0, 2),
            (4, 0, 2, 0),
        ] {
            let mut data = vec![9u32; rows * cols];
            let m = MatMut::new("out", &mut data, rows, cols).unwrap();
            let (top, below) = m.split_rows(r);
            let (left, right) = below.split_cols(c);
            fill(top, 0);
            fill(left, 1);
            fill(right, 2);
            for (i, &v) in data.iter().enumerate() {
                let expected = if i / cols < r {
                    0
                } else if i % cols < c {
                    1
                } else {
                    2
                };
                assert_eq!(v, expected);
            }
        }
    }

    #[test]
    fn a_wrong_length_is_refused_by_name() {
        let said = MatMut::new("out", &mut [0u8; 5], 2, 3)
            .unwrap_err()
            .to_string();
        assert_eq!(said, "out is 5 elements long; expected 6 (rows x N)");
    }
}
