//! Writes `runtime/capi/include/lumina.h` from the functions of `runtime/capi`:
//! `cargo run --manifest-path runtime/header-gen/Cargo.toml`.
//!
//! Some functions and types come from lists, by macros. So the compiler writes the crate with all
//! macros expanded, which it does as a nightly one, and of that the header is made.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use cbindgen::{
    Builder, Config, DocumentationStyle, EnumConfig, ExportConfig, FunctionConfig, Language,
    RenameRule, SortKey, Style,
};

/// Rust's names of types, and those of the header. Types of operators have the names of infiniop.
const TYPES: &[(&str, &str)] = &[
    ("DType", "lumina_dtype"),
    ("LogCallback", "lumina_log_callback"),
    ("LogLevel", "lumina_log_level"),
    ("Model", "lumina_model"),
    ("Role", "lumina_role"),
    ("Session", "lumina_session"),
    ("SessionOptions", "lumina_session_options"),
    ("Status", "lumina_status"),
    ("Tensor", "lumina_tensor"),
    ("TensorInfo", "lumina_tensor_info"),
];

const HEADER: &str = "\
/* The C ABI of Lumina-JAX: models, sessions, and operators on tensors of the caller.
 *
 * Every function that can fail answers with a lumina_status, and lumina_last_error tells the calling
 * thread what went wrong. No function prints, exits or throws.
 *
 * Pointers are checked for null, texts for UTF-8, numbers for their range. What cannot be checked is
 * the caller's to keep: a pointer that is not null leads to as much memory as the function says, and
 * a handle is one that a function made and that was not destroyed yet. Results go to the places that
 * are named first or last, and are left as they are, or null, where a call fails.
 *
 * Written by runtime/header-gen. See docs/c.md. */";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new("cargo")
        .args(["rustc", "--quiet", "--locked", "--package", "lumina-capi", "--lib"])
        .args(["--profile", "check", "--", "-Zunpretty=expanded"])
        .current_dir(&root)
        // Of its own, as it is built by other rules.
        .env("CARGO_TARGET_DIR", root.join("target/header"))
        .env("RUSTC_BOOTSTRAP", "1")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let types = operator_types(&String::from_utf8_lossy(&output.stdout));
    let mut source = tempfile::NamedTempFile::with_suffix(".rs")?;
    source.write_all(&output.stdout)?;
    let rename: HashMap<String, String> =
        TYPES.iter().map(|(rust, c)| (rust.to_string(), c.to_string())).collect();
    let config = Config {
        header: Some(HEADER.into()),
        include_guard: Some("LUMINA_H".into()),
        cpp_compat: true,
        trailer: Some(types),
        language: Language::C,
        style: Style::Type,
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::Doxy,
        line_length: 100,
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(String::from).to_vec(),
        export: ExportConfig {
            rename,
            // Numbers that are passed as such, so that any number may come.
            include: ["DType", "LogLevel", "Role"].map(String::from).to_vec(),
            ..ExportConfig::default()
        },
        enumeration: EnumConfig {
            rename_variants: RenameRule::QualifiedScreamingSnakeCase,
            ..EnumConfig::default()
        },
        function: FunctionConfig { sort_by: Some(SortKey::None), ..FunctionConfig::default() },
        ..Config::default()
    };
    let path = root.join("runtime/capi/include/lumina.h");
    std::fs::create_dir_all(path.parent().expect("a folder"))?;
    let mut header = Vec::new();
    Builder::new().with_config(config).with_src(source.path()).generate()?.write(&mut header);
    std::fs::write(path, plain_names(&without_safety(&String::from_utf8(header)?)))?;
    Ok(())
}

/// The header without the sections that Rust asks for where a function is unsafe: in C all are, and the
/// header begins with what is to be kept.
fn without_safety(header: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut is_inside = false;
    for line in header.lines() {
        if line.trim() == "* # Safety" {
            is_inside = true;
            lines.pop_if(|line| line.trim() == "*");
        }
        is_inside &= line.trim() != "*/";
        if !is_inside {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// The header without the underscore that Rust has before a parameter which a function makes no use of.
fn plain_names(header: &str) -> String {
    let mut plain = String::with_capacity(header.len());
    let mut last = ' ';
    for (index, letter) in header.char_indices() {
        let begins_a_name = matches!(last, ' ' | '*') && letter == '_';
        if !begins_a_name || !header[index + 1..].starts_with(|next: char| next.is_ascii_lowercase()) {
            plain.push(letter);
        }
        last = letter;
    }
    plain
}

/// A name for the descriptors of each operator, as programs for infiniop have it.
fn operator_types(source: &str) -> String {
    let created = source.split("\"infiniopCreate").skip(1);
    let names = created.filter_map(|rest| rest.split_once("Descriptor\""));
    let mut types = String::from("/* Descriptors of operators by their names. */");
    for (name, behind) in names {
        // The macro that writes the names stands there too, and functions of operators that are not there
        // stand in no header.
        let is_name = name.chars().all(|letter| letter.is_ascii_alphanumeric());
        if is_name
            && behind.trim_start().trim_start_matches([')', ']']).trim_start().starts_with("pub ")
        {
            types += &format!("\ntypedef InfiniopDescriptor *infiniop{name}Descriptor_t;");
        }
    }
    types
}
