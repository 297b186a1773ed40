//! The program and the files that its tests make.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lumina_runtime::DType;
use npyz::WriterBuilder;

use crate::build::*;
use crate::proto::Role;

/// A folder of its own for a test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn model(&self, file: &File) -> String {
        let path = self.path("m.lmn");
        std::fs::write(&path, file.bytes()).unwrap();
        path.to_str().unwrap().into()
    }

    pub(crate) fn array<T: npyz::AutoSerialize>(
        &self,
        name: &str,
        shape: &[u64],
        data: &[T],
    ) -> String {
        self.array_in(npyz::Order::C, name, shape, data)
    }

    pub(crate) fn array_in<T: npyz::AutoSerialize>(
        &self,
        order: npyz::Order,
        name: &str,
        shape: &[u64],
        data: &[T],
    ) -> String {
        let path = self.path(name);
        let file = std::fs::File::create(&path).unwrap();
        let options = npyz::WriteOptions::new().default_dtype().shape(shape).order(order);
        let mut writer = options.writer(file).begin_nd().unwrap();
        data.iter().for_each(|element| writer.push(element).unwrap());
        writer.finish().unwrap();
        path.to_str().unwrap().into()
    }

    pub(crate) fn string(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }
}

pub(crate) fn lumina(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lumina")).args(arguments).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// A .npy file of that version, header and data.
pub(crate) fn npy(version: [u8; 2], header: &str, data: &[u8]) -> Vec<u8> {
    let before = if version[0] == 1 { 10 } else { 12 };
    let length = (before + header.len() + 1).next_multiple_of(64) - before;
    let mut file = [b"\x93NUMPY", &version[..]].concat();
    match version[0] {
        1 => file.extend((length as u16).to_le_bytes()),
        _ => file.extend((length as u32).to_le_bytes()),
    }
    file.extend(format!("{header:<0$}\n", length - 1).bytes());
    file.extend(data);
    file
}

/// A .npz file, or any other archive, of these files.
pub(crate) fn npz(is_compressed: bool, members: &[(&str, &Vec<u8>)]) -> Vec<u8> {
    use rawzip::{CompressionMethod, ZipArchiveWriter};
    let mut file = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut file);
    for (name, data) in members {
        let method = [CompressionMethod::STORE, CompressionMethod::DEFLATE];
        let method = method[usize::from(is_compressed)];
        let builder = archive.new_file(*name).compression_method(method);
        let (mut entry, config) = builder.start().unwrap();
        let descriptor = if is_compressed {
            let level = flate2::Compression::default();
            let mut writer = config.wrap(flate2::write::DeflateEncoder::new(&mut entry, level));
            writer.write_all(data).unwrap();
            let (encoder, descriptor) = writer.finish().unwrap();
            encoder.finish().unwrap();
            descriptor
        } else {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(data).unwrap();
            writer.finish().unwrap().1
        };
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    file
}

/// The message of a command that fails with exit code 2.
pub(crate) fn refusal(arguments: &[&str]) -> String {
    let output = lumina(arguments);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let message = text.strip_prefix("error: ").unwrap().trim_end();
    assert_eq!(message.lines().count(), 1, "{text}");
    message.into()
}

pub(crate) fn read<T: npyz::Deserialize>(path: &Path) -> (Vec<u64>, Vec<T>) {
    let npy = npyz::NpyFile::new(std::fs::File::open(path).unwrap()).unwrap();
    (npy.shape().to_vec(), npy.into_vec().unwrap())
}

/// y = -x, x f32[batch,2].
pub(crate) fn negation() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch, fixed(&[2])[0].clone()];
    let x = file.input("x", DType::F32, &dims);
    let y = file.node("neg", &[x], &[]);
    file.graph.nodes[0].source = "model.py:3".into();
    file.output(y, "y", DType::F32, &dims);
    file.test(&[&f32s(&[1, 2], &[1.0, 2.0])], &[&f32s(&[1, 2], &[-1.0, -2.0])]);
    file
}

/// y = first word of the key, x = -x; the key comes from --noise-seed.
pub(crate) fn seeded() -> File {
    let mut file = File::new();
    let key = file.input("key", DType::U32, &fixed(&[2]));
    file.graph.inputs[0].role = Role::NoiseSeed as i32;
    let x = file.input("x", DType::F32, &fixed(&[1]));
    let words = file.node("copy", &[key], &[]);
    let y = file.node("neg", &[x], &[]);
    file.output(words, "words", DType::U32, &fixed(&[2]));
    file.output(y, "y", DType::F32, &fixed(&[1]));
    file
}

/// What jax.random.fold_in makes of jax.random.key(7) and 0, 1, 2.
pub(crate) const KEYS: [[u32; 2]; 3] =
    [[3_625_411_723, 1_954_958_720], [195_045_567, 4_062_205_631], [966_301_609, 1_948_237_315]];

/// y = x + key in each row, x u32[batch,2].
pub(crate) fn keyed() -> File {
    let mut file = File::new();
    let dims = [file.symbol("batch"), fixed(&[2])[0].clone()];
    let key = file.input("key", DType::U32, &fixed(&[2]));
    file.graph.inputs[0].role = Role::NoiseSeed as i32;
    let x = file.input("x", DType::U32, &dims);
    let attrs = [("shape", shape(&dims)), ("broadcast_dimensions", ints(&[1]))];
    let wide = file.node("broadcast_in_dim", &[key], &attrs);
    let y = file.node("add", &[x, wide], &[]);
    file.output(y, "y", DType::U32, &dims);
    file
}
