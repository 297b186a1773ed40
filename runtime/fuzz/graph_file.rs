//! A file whose container is right, around a graph.

const HEADER: usize = 32;
const ENTRY: usize = 32;
/// Of the tensors and of the test vectors.
const SECTION: usize = 1024;

/// A file with this graph, and zeros in every other section.
pub(crate) fn file(graph: &[u8]) -> Vec<u8> {
    let zeros = [0; SECTION];
    let sections = [graph, &zeros, &zeros, &zeros];
    let header_len = HEADER + ENTRY * sections.len();
    let (mut table, mut body) = (Vec::new(), Vec::new());
    for (kind, bytes) in (1u32..).zip(sections) {
        let offset = (header_len + body.len()).next_multiple_of(64);
        body.resize(offset - header_len, 0);
        body.extend_from_slice(bytes);
        table.extend(kind.to_le_bytes());
        table.extend(0u32.to_le_bytes());
        table.extend((offset as u64).to_le_bytes());
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(64u32.to_le_bytes());
        table.extend(crc32c::crc32c(bytes).to_le_bytes());
    }
    let mut file = Vec::from(*b"LMN\x1a\x01\0\0\0");
    file.extend((header_len as u32).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    file.extend(((header_len + body.len()) as u64).to_le_bytes());
    file.extend((sections.len() as u32).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    file.extend(table);
    let crc = crc32c::crc32c(&file);
    file[28..32].copy_from_slice(&crc.to_le_bytes());
    file.extend(body);
    file
}
