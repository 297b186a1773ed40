//! Models that stay in the memory where the system keeps the file: `--mmap`, `Model::in_place`.

use std::process::{Command, Output};

use lumina_runtime::{Checksums, DType, Model};

use crate::build::*;
use crate::program::{Folder, lumina, read, refusal};

/// Elements of a large weight, 96 MiB.
const LARGE: usize = 24 << 20;

/// y = x + sum of a weight of so many elements, the first of which is 1 and all others 0.
fn heavy(elements: usize) -> File {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[]));
    let mut weight = vec![0f32; elements];
    weight[0] = 1.0;
    let w = file.tensor("w", &f32s(&[elements], &weight));
    let sum = file.node("reduce_sum", &[w], &[("axes", ints(&[0]))]);
    let y = file.node("add", &[x, sum], &[]);
    file.output(y, "y", DType::F32, &fixed(&[]));
    file
}

/// The file with one bit of its last byte changed, which is of the weights.
fn corrupt(mut bytes: Vec<u8>) -> Vec<u8> {
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

/// Memory that starts `start` bytes after a multiple of 64.
struct Memory {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Memory {
    fn new(file: &[u8], start: usize) -> Self {
        let mut bytes = vec![0; file.len() + 128];
        let start = bytes.as_ptr().align_offset(64) + start;
        bytes[start..start + file.len()].copy_from_slice(file);
        Self { bytes, start, length: file.len() }
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

#[test]
fn bytes_in_place_are_checked() {
    let file = heavy(100).bytes();
    let load = |bytes: &[u8], checksums| Model::in_place(Memory::new(bytes, 0), checksums);
    assert_eq!(load(&file, Checksums::All).unwrap().file_len(), file.len());
    let wrong = corrupt(file.clone());
    let text = load(&wrong, Checksums::All).unwrap_err().to_string();
    assert!(text.starts_with("section WEIGHTS is corrupt: its crc32c is 0x"), "{text}");
    load(&wrong, Checksums::AllButWeights).unwrap();
    // The graph comes first.
    let mut wrong = file.clone();
    wrong[130] ^= 1;
    let text = load(&wrong, Checksums::AllButWeights).unwrap_err().to_string();
    assert!(text.starts_with("section GRAPH is corrupt: its crc32c is 0x"), "{text}");
    let text = load(&file[..file.len() - 1], Checksums::AllButWeights).unwrap_err().to_string();
    assert!(text.starts_with("truncated file: "), "{text}");
    assert_eq!(
        Model::in_place(Memory::new(&file, 32), Checksums::All).unwrap_err().to_string(),
        "the bytes of the file start at no multiple of 64, as mapped memory does"
    );
}

/// `lumina` with 64 MiB of memory that is its own, which maps of files are not.
fn limited(arguments: &[&str]) -> Output {
    let limited = "ulimit -d 65536 && exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_lumina");
    let mut command = Command::new("sh");
    command.args(["-c", limited, "sh", program]).args(arguments).output().unwrap()
}

#[test]
fn weights_that_are_mapped_take_no_memory() {
    let folder = Folder::new();
    let model = folder.model(&heavy(LARGE));
    let x = folder.array("x.npy", &[], &[2f32]);
    let y = folder.string("y.npy");
    let run = ["run", &model, "--input", &x, "--output", &y, "--threads", "1"];
    let output = limited(&run);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(": there is no memory for "), "{text}");
    for options in [&["--mmap"][..], &["--mmap", "--skip-checksum"]] {
        let output = limited(&[&run, options].concat());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(read::<f32>(&folder.path("y.npy")), (vec![], vec![3.0]));
        assert!(limited(&[&["inspect", &model], options].concat()).status.success());
    }
}

#[test]
fn every_byte_of_a_large_file_is_checked_unless_it_is_left_out() {
    let folder = Folder::new();
    let file = heavy(LARGE).bytes();
    let path = folder.string("m.lmn");
    let sound = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Model::load(&path).map(|model| model.file_len()).map_err(|error| error.to_string())
    };
    assert_eq!(sound(&file), Ok(file.len()));
    let corrupted = corrupt(file);
    assert!(sound(&corrupted).unwrap_err().starts_with("section WEIGHTS is corrupt: "));
    let wrong = format!("{path}: section WEIGHTS is corrupt: its crc32c is 0x");
    assert!(refusal(&["inspect", &path]).starts_with(&wrong));
    assert!(refusal(&["inspect", &path, "--mmap"]).starts_with(&wrong));
    assert!(lumina(&["inspect", &path, "--mmap", "--skip-checksum"]).status.success());
    assert_eq!(lumina(&["inspect", &path, "--skip-checksum"]).status.code(), Some(2));
}

#[test]
fn what_is_no_file_cannot_be_mapped() {
    assert_eq!(
        refusal(&["inspect", "/dev/null", "--mmap"]),
        "cannot read `/dev/null`: it is no regular file, so leave --mmap out"
    );
    let folder = Folder::new();
    let empty = folder.string("empty");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(
        refusal(&["inspect", &empty, "--mmap"]),
        format!("{empty}: truncated file: the header needs 32 bytes, got 0")
    );
}
