//! Faults of the header and the section table.

use std::path::Path;
use std::process::Command;

use lumina_runtime::{Model, SectionKind};

use crate::build::*;
use crate::hostile::chain;

fn file() -> Vec<u8> {
    let mut file = File::new();
    let x = file.input("x", lumina_runtime::DType::F32, &fixed(&[2]));
    let w = file.tensor("w", &f32s(&[2], &[1.0, 2.0]));
    let y = file.node("add", &[x, w], &[]);
    file.output(y, "y", lumina_runtime::DType::F32, &fixed(&[2]));
    file.bytes()
}

fn refusal(bytes: &[u8]) -> String {
    Model::from_bytes(bytes).expect_err("the file is wrong").to_string()
}

/// The refusal after some bytes were replaced and the checksums made right again.
fn edited(at: usize, with: &[u8]) -> String {
    let mut bytes = file();
    bytes[at..at + with.len()].copy_from_slice(with);
    fix_checksums(&mut bytes);
    refusal(&bytes)
}

/// Position of a field of the table entry of the WEIGHTS section.
const ENTRY: usize = 64;

#[test]
fn a_right_file_loads() {
    let model = Model::from_bytes(&file()).unwrap();
    assert_eq!(model.version(), (1, 0));
    let kinds: Vec<_> = model.sections().iter().map(|section| section.kind).collect();
    assert_eq!(kinds, [Some(SectionKind::Graph), Some(SectionKind::Weights)]);
    assert_eq!(model.file_len(), file().len());
}

#[test]
fn a_newer_minor_and_an_unknown_section_are_read() {
    let mut bytes = file();
    bytes[6] = 7;
    fix_checksums(&mut bytes);
    assert_eq!(Model::from_bytes(&bytes).unwrap().version(), (1, 7));
    let graph = File::new().graph;
    let graph = prost::Message::encode_to_vec(&graph);
    let model = Model::from_bytes(&container(&[(GRAPH, &graph), (9, b"new")])).unwrap();
    assert_eq!(model.sections()[1].kind, None);
}

#[test]
fn not_a_lmn_file() {
    assert_eq!(
        refusal(b"PK\x03\x04 something else"),
        "not a .lmn file: it starts with [50, 4b, 03, 04], expected [4c, 4d, 4e, 1a] (\"LMN\\x1a\")"
    );
    assert_eq!(refusal(b""), "truncated file: the header needs 32 bytes, got 0");
}

#[test]
fn truncated() {
    let bytes = file();
    assert_eq!(refusal(&bytes[..31]), "truncated file: the header needs 32 bytes, got 31");
    assert_eq!(refusal(&bytes[..90]), "truncated file: the section table needs 96 bytes, got 90");
    let (length, got) = (bytes.len(), bytes.len() - 1);
    assert_eq!(
        refusal(&bytes[..got]),
        format!("truncated file: the file needs {length} bytes, got {got}")
    );
}

#[test]
fn versions_and_flags() {
    assert_eq!(
        edited(4, &[2, 0]),
        "file format version 2 is not supported, this runtime reads 1 to 1"
    );
    assert_eq!(
        edited(4, &[0, 0]),
        "file format version 0 is not supported, this runtime reads 1 to 1"
    );
    assert_eq!(
        edited(12, &[4, 0, 0, 0]),
        "the header sets must-understand flags 0x4, which this runtime does not know"
    );
    assert_eq!(
        edited(ENTRY + 4, &[1, 0, 0, 0]),
        "section WEIGHTS sets must-understand flags 0x1, which this runtime does not know"
    );
}

#[test]
fn header_fields() {
    assert_eq!(edited(8, &[97]), "header: `header_len` must be 96 for 2 sections, got 97");
    assert_eq!(edited(24, &[65]), "header: `section_count` must be at most 64, got 65");
    let mut bytes = file();
    bytes.push(0);
    let (length, claimed) = (bytes.len(), bytes.len() - 1);
    assert_eq!(
        refusal(&bytes),
        format!("header: `file_len` must be {length} as the file has, got {claimed}")
    );
}

#[test]
fn checksums() {
    let mut bytes = file();
    bytes[6] ^= 1;
    assert!(refusal(&bytes).starts_with("the header is corrupt: its crc32c is 0x"));
    let mut bytes = file();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(refusal(&bytes).starts_with("section WEIGHTS is corrupt: its crc32c is 0x"));
}

#[test]
fn section_table() {
    let model = Model::from_bytes(&file()).unwrap();
    let [graph, weights] = model.sections() else { panic!("two sections") };
    let (end, start, length) = (graph.range.end, weights.range.start, file().len());
    assert_eq!(
        edited(ENTRY + 24, &[32, 0, 0, 0]),
        "section WEIGHTS: `align` must be a power of two from 64 to 4096, got 32"
    );
    assert_eq!(
        edited(ENTRY + 8, &[1, 1]),
        "section WEIGHTS: `offset` must be a multiple of 64, got 257"
    );
    assert_eq!(
        edited(ENTRY + 16, &[0xff; 8]),
        format!(
            "section WEIGHTS: `offset` {start} and `length` {} reach beyond the file of {length} \
             bytes",
            u64::MAX
        )
    );
    assert_eq!(
        edited(ENTRY + 8, &[64, 0]),
        format!("section WEIGHTS: `offset` 64 overlaps what comes before it, up to {end}")
    );
    assert_eq!(edited(ENTRY, &[1]), "section GRAPH: appears twice");
    assert_eq!(
        edited(start - 1, &[1]),
        format!("section WEIGHTS: the padding before it, from {end} to {start}, must be zero")
    );
    assert_eq!(edited(32, &[7]), "section GRAPH: missing");
    assert_eq!(
        edited(ENTRY + 16, &[4]),
        format!(
            "section table: the last section must end with the file at {length}, it ends at {}",
            start + 4
        )
    );
}

#[test]
fn undecodable_graph() {
    let text = refusal(&container(&[(GRAPH, &[0x0a, 0xff])]));
    assert!(text.starts_with("section GRAPH cannot be decoded: "), "{text}");
    // The producer, as bytes that are not UTF-8.
    let text = refusal(&container(&[(GRAPH, &[0x0a, 0x01, 0xff])]));
    assert!(text.contains("UTF-8"), "{text}");
}

#[test]
fn unreadable_file() {
    let text = Model::load("/no/such/file.lmn").unwrap_err().to_string();
    assert!(text.starts_with("cannot read `/no/such/file.lmn`: "), "{text}");
}

/// Tests that start the program, which are left out where the tests are those of another machine.
mod cli {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_read_as_a_file_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.lmn");
        let file = chain(100_000);
        std::fs::write(&path, &file).unwrap();
        let through = |path: &Path, cut: &str| {
            let command = format!("{cut} \"$0\" | \"$1\" inspect /dev/stdin");
            let arguments = [path.to_str().unwrap(), env!("CARGO_BIN_EXE_lumina")];
            Command::new("sh").args(["-c", &command]).args(arguments).output().unwrap()
        };
        let whole = through(&path, "cat");
        assert_eq!(
            String::from_utf8(whole.stdout).unwrap(),
            Model::load(&path).unwrap().describe()
        );
        let short = String::from_utf8(through(&path, "head -c 5000").stderr).unwrap();
        let length = file.len();
        assert!(
            short.ends_with(&format!("truncated file: the file needs {length} bytes, got 5000\n")),
            "{short}"
        );
    }
}
