//! A file of named tensors with a description: safetensors, versioned and checksummed.
//!
//! safetensors keeps a map of strings beside its tensors. One entry makes such a file ours: `qcore`, a
//! JSON object with
//!
//! | key | value |
//! |---|---|
//! | `kind`, `version` | `model` and 1, say |
//! | `description` | a string of JSON; what is in it, the kind says |
//! | `checksum` | CRC-32 in eight hex digits over the description's bytes, then, by name in byte order, each tensor's name, its dimensions as 64-bit integers and its data, all little-endian |
//!
//! The same content gives the same bytes.
//! Data is copied out on reading, so its alignment in the file does not matter. A file is
//! written whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};

use serde::{Deserialize, Serialize};

use super::whole::write_whole;
use crate::error::{Error, Result};

/// The entry `qcore` of the metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    kind: String,
    version: u32,
    description: String,
    checksum: String,
}

/// Numbers of a tensor.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Data {
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
}

/// A tensor: shape and numbers, row-major.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data,
}

/// What a file holds: one kind of thing, described in JSON, and its tensors by name.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Container {
    pub(crate) description: String,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Data {
    fn dtype(&self) -> Dtype {
        match self {
            Data::U32(_) => Dtype::U32,
            Data::I32(_) => Dtype::I32,
            Data::F32(_) => Dtype::F32,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Data::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Option<Self> {
        let words = bytes.as_chunks::<4>().0.iter().copied();
        match dtype {
            Dtype::U32 => Some(Data::U32(words.map(u32::from_le_bytes).collect())),
            Dtype::I32 => Some(Data::I32(words.map(i32::from_le_bytes).collect())),
            Dtype::F32 => Some(Data::F32(words.map(f32::from_le_bytes).collect())),
            _ => None,
        }
    }
}

impl Container {
    pub(crate) fn new(description: String) -> Self {
        Container {
            description,
            tensors: BTreeMap::new(),
        }
    }

    /// Adds a tensor.
    pub(crate) fn put(&mut self, name: impl Into<String>, shape: &[usize], data: Data) {
        let shape = shape.to_vec();
        self.tensors.insert(name.into(), Tensor { shape, data });
    }

    /// Takes out the tensor `name` if it is there, of this type and shape.
    pub(crate) fn take_f32(&mut self, what: &str, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self.take(what, name, shape)? {
            Data::F32(v) => Ok(v),
            other => Err(wrong_type(what, name, &other, "F32")),
        }
    }

    /// As [`Container::take_f32`], for i32.
    pub(crate) fn take_i32(&mut self, what: &str, name: &str, shape: &[usize]) -> Result<Vec<i32>> {
        match self.take(what, name, shape)? {
            Data::I32(v) => Ok(v),
            other => Err(wrong_type(what, name, &other, "I32")),
        }
    }

    /// As [`Container::take_f32`], for u32.
    pub(crate) fn take_u32(&mut self, what: &str, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        match self.take(what, name, shape)? {
            Data::U32(v) => Ok(v),
            other => Err(wrong_type(what, name, &other, "U32")),
        }
    }

    fn take(&mut self, what: &str, name: &str, shape: &[usize]) -> Result<Data> {
        let Some(tensor) = self.tensors.remove(name) else {
            return Err(Error::format(
                what,
                format_args!("the tensor '{name}' is missing"),
            ));
        };
        if tensor.shape != shape {
            let problem = format!(
                "the tensor '{name}' has shape {:?}; expected {shape:?}",
                tensor.shape
            );
            return Err(Error::format(what, problem));
        }
        Ok(tensor.data)
    }

    /// The file's bytes.
    pub(crate) fn to_bytes(&self, kind: &str, version: u32) -> Result<Vec<u8>> {
        let bytes: Vec<(&String, &Tensor, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, t)| (name, t, t.data.to_bytes()))
            .collect();
        let parts = bytes
            .iter()
            .map(|(name, t, bytes)| (name.as_str(), &t.shape[..], &bytes[..]));
        let checksum = checksum(&self.description, parts);
        let head = Head {
            kind: kind.to_string(),
            version,
            description: self.description.clone(),
            checksum: format!("{checksum:08x}"),
        };
        let head = serde_json::to_string(&head).map_err(|e| Error::format(kind, e))?;
        let metadata = HashMap::from([("qcore".to_string(), head)]);
        let mut views = Vec::new();
        for (name, t, bytes) in &bytes {
            let view = TensorView::new(t.data.dtype(), t.shape.clone(), bytes);
            views.push((name.as_str(), view.map_err(|e| Error::format(name, e))?));
        }
        safetensors::serialize(views, Some(metadata)).map_err(|e| Error::format(kind, e))
    }

    /// Reads the bytes of a file of this kind and version; `what` names it in errors.
    #[cfg(test)]
    pub(crate) fn from_bytes(what: &str, kind: &str, version: u32, bytes: &[u8]) -> Result<Self> {
        Self::of_versions(what, kind, &[version], bytes).map(|(_, container)| container)
    }

    /// Reads the bytes of a file of this kind and any of `versions`, the newest last, and tells which.
    pub(crate) fn of_versions(
        what: &str,
        kind: &str,
        versions: &[u32],
        bytes: &[u8],
    ) -> Result<(u32, Self)> {
        let foreign = |e: safetensors::SafeTensorError| {
            Error::format(what, format_args!("not a whole safetensors file ({e})"))
        };
        let (_, header): (usize, Metadata) = SafeTensors::read_metadata(bytes).map_err(foreign)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(foreign)?;
        let head = header.metadata().as_ref().and_then(|m| m.get("qcore"));
        let Some(head) = head else {
            let problem = "not a qcore file: no 'qcore' in the safetensors metadata";
            return Err(Error::format(what, problem));
        };
        let head: Head = serde_json::from_str(head)
            .map_err(|e| Error::format(what, format_args!("the 'qcore' metadata: {e}")))?;
        let version = head.version;
        if head.kind != kind || !versions.contains(&version) {
            let known: Vec<String> = versions.iter().map(|v| format!("'{kind} {v}'")).collect();
            let problem = format!(
                "it is a qcore '{} {version}'; this call reads {}",
                head.kind,
                known.join(" and ")
            );
            return Err(Error::format(what, problem));
        }
        let (description, stored) = (head.description, head.checksum);
        let mut all: Vec<(String, TensorView<'_>)> = tensors.tensors();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let parts = all
            .iter()
            .map(|(name, view)| (name.as_str(), view.shape(), view.data()));
        let computed = format!("{:08x}", checksum(&description, parts));
        if stored != computed {
            let problem = format!("damaged: the checksum is {computed}; the file says {stored}");
            return Err(Error::format(what, problem));
        }
        let mut container = Container::new(description);
        for (name, view) in &all {
            let Some(data) = Data::from_bytes(view.dtype(), view.data()) else {
                let problem = format!(
                    "the tensor '{name}' is {:?}; expected U32, I32 or F32",
                    view.dtype()
                );
                return Err(Error::format(what, problem));
            };
            container.put(name, view.shape(), data);
        }
        Ok((version, container))
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn save(&self, path: &Path, kind: &str, version: u32) -> Result<()> {
        write_whole(path, &self.to_bytes(kind, version)?)
    }

    /// Reads a file.
    #[cfg(test)]
    pub(crate) fn load(path: &Path, kind: &str, version: u32) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
        Self::from_bytes(&path.display().to_string(), kind, version, &bytes)
    }
}

fn wrong_type(what: &str, name: &str, found: &Data, expected: &str) -> Error {
    let problem = format!(
        "the tensor '{name}' is {:?}; expected {expected}",
        found.dtype()
    );
    Error::format(what, problem)
}

fn checksum<'a>(
    description: &str,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(description.as_bytes());
    for (name, shape, bytes) in tensors {
        crc.update(name.as_bytes());
        for &dim in shape {
            crc.update(&(dim as u64).to_le_bytes());
        }
        crc.update(bytes);
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Container {
        let mut c = Container::new("{\"a\":1}".to_string());
        c.put("w", &[2, 1], Data::U32(vec![1, u32::MAX]));
        c.put("t", &[3], Data::I32(vec![i32::MIN, 0, i32::MAX]));
        c.put("x", &[], Data::F32(vec![-0.0]));
        c.put("none", &[0, 7], Data::F32(vec![]));
        c
    }

    fn said(bytes: &[u8]) -> String {
        Container::from_bytes("it", "test", 1, bytes)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_written_reads_back() {
        let bytes = sample().to_bytes("test", 1).unwrap();
        assert_eq!(
            Container::from_bytes("it", "test", 1, &bytes).unwrap(),
            sample()
        );
        // The same content gives the same bytes: files can be compared.
        assert_eq!(bytes, sample().to_bytes("test", 1).unwrap());
    }

    #[test]
    fn foreign_truncated_and_damaged_files_are_told_apart() {
        let bytes = sample().to_bytes("test", 1).unwrap();
        assert!(said(b"").contains("not a whole safetensors file"));
        assert!(said(&bytes[..bytes.len() - 1]).contains("not a whole safetensors file"));
        assert!(said(b"GIF89a, and then some bytes more").contains("not a whole safetensors file"));
        let plain: HashMap<String, TensorView<'_>> = HashMap::new();
        let plain = safetensors::serialize(plain, None).unwrap();
        assert!(said(&plain).contains("no 'qcore' in the safetensors metadata"));
        let other = sample().to_bytes("other", 2).unwrap();
        assert_eq!(
            said(&other),
            "it: it is a qcore 'other 2'; this call reads 'test 1'"
        );
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(said(&damaged).starts_with("it: damaged: the checksum is"));
        // No byte can be flipped unnoticed.
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0x10;
            let read = Container::from_bytes("it", "test", 1, &damaged);
            assert!(read.is_err() || read.unwrap() == sample(), "byte {i}");
        }
    }

    #[test]
    fn a_saved_file_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.qcore");
        sample().save(&path, "test", 1).unwrap();
        assert_eq!(Container::load(&path, "test", 1).unwrap(), sample());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = dir.path().join("no/such/m.qcore");
        let said = sample().save(&nowhere, "test", 1).unwrap_err().to_string();
        assert!(
            said.starts_with("cannot write ") && said.contains("no/such/m.qcore"),
            "{said}"
        );
        let said = Container::load(&nowhere, "test", 1)
            .unwrap_err()
            .to_string();
        assert!(said.starts_with("cannot read "), "{said}");
    }
}
