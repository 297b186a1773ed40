//! Where `lumina run` writes: files, links, pipes, devices, standard output, .npz files; and what
//! it leaves behind.

use std::ffi::OsStr;
use std::fs::{self, File as Handle, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lumina_runtime::DType;

use crate::build::*;
use crate::program::{Folder, lumina, negation, npy, npz, read, refusal, stdout};

/// A folder with a model of two outputs, a = x and b = -x, and x.
struct Two {
    folder: Folder,
    model: String,
    x: String,
}

impl Two {
    fn new() -> Self {
        let folder = Folder::new();
        let mut file = File::new();
        let x = file.input("x", DType::F32, &fixed(&[2]));
        let a = file.node("copy", &[x], &[]);
        let b = file.node("neg", &[x], &[]);
        file.output(a, "a", DType::F32, &fixed(&[2]));
        file.output(b, "b/c", DType::F32, &fixed(&[2]));
        let model = folder.model(&file);
        let x = folder.array("x.npy", &[2], &[1f32, 2.0]);
        Self { folder, model, x }
    }

    /// `lumina run` in the folder.
    fn command(&self, outputs: &[&OsStr]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumina"));
        command.current_dir(self.folder.path("")).args(["run", &self.model, "--input", &self.x]);
        command.args(outputs.iter().flat_map(|output| [OsStr::new("--output"), output]));
        command
    }

    fn run(&self, outputs: &[&str]) -> Output {
        let outputs: Vec<&OsStr> = outputs.iter().map(OsStr::new).collect();
        self.command(&outputs).output().unwrap()
    }

    fn refusal(&self, outputs: &[&str]) -> String {
        let output = self.run(outputs);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        text.strip_prefix("error: ").unwrap().trim_end().into()
    }

    /// Names in the folder, but for those of the model and of x.
    fn names(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path("")).unwrap();
        let names = entries.map(|entry| PathBuf::from(entry.unwrap().file_name()));
        let mut names: Vec<PathBuf> = names
            .filter(|name| *name != Path::new("m.lmn") && *name != Path::new("x.npy"))
            .collect();
        names.sort();
        names
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}

fn file_of(data: &[f32]) -> Vec<u8> {
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", data.len());
    npy([1, 0], &header, bytemuck::cast_slice(data))
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn links_stay_and_lead_to_the_file() {
    let two = Two::new();
    fs::create_dir(two.path("there")).unwrap();
    let target = two.path("there/target");
    for (name, to) in [
        ("absolute", target.to_str().unwrap()),
        ("relative", "there/target"),
        ("of-a-link", "relative"),
        ("there/up", "../there/target"),
    ] {
        // A link to nothing says where the file shall be.
        let _ = fs::remove_file(&target);
        symlink(to, two.path(name)).unwrap();
        for _ in 0..2 {
            let output = two.run(&[&format!("b/c={name}")]);
            assert!(output.status.success(), "{output:?}");
            assert_eq!(fs::read_link(two.path(name)).unwrap(), Path::new(to));
            assert_eq!(fs::read(&target).unwrap(), file_of(&[-1.0, -2.0]));
        }
    }
    symlink("circle", two.path("circle")).unwrap();
    let text = two.refusal(&["a=circle"]);
    assert!(text.starts_with("cannot write `circle`: Too many levels of symbolic links"), "{text}");
    assert_eq!(fs::read_dir(two.path("there")).unwrap().count(), 2);
}

#[test]
fn pipes_devices_and_standard_output_are_written_to() {
    let two = Two::new();
    let pipe = two.path("pipe");
    make_pipe(&pipe);
    let reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().unwrap();
    let output = two.run(&["a=pipe", "b/c=-"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(reader.wait_with_output().unwrap().stdout, file_of(&[1.0, 2.0]));
    assert_eq!(output.stdout, file_of(&[-1.0, -2.0]));
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(two.run(&["a=/dev/stdout"]).stdout, file_of(&[1.0, 2.0]));
    let node = two.path("null");
    let is_made = Command::new("mknod").arg(&node).args(["c", "1", "3"]).output().unwrap();
    if is_made.status.success() {
        two.run(&["a=null"]); // which may fail where a file system opens no devices
        assert!(fs::symlink_metadata(&node).unwrap().file_type().is_char_device());
        fs::remove_file(&node).unwrap();
    }
    assert_eq!(two.names(), [Path::new("pipe")]);
}

#[test]
fn a_file_that_is_standard_output_keeps_what_is_in_it() {
    let two = Two::new();
    let path = two.path("log");
    fs::write(&path, "before").unwrap();
    let mut command = two.command(&[OsStr::new("a=/dev/stdout")]);
    let log = Handle::options().append(true).open(&path).unwrap();
    assert!(command.stdout(log).output().unwrap().status.success());
    assert_eq!(fs::read(&path).unwrap(), [b"before", &file_of(&[1.0, 2.0])[..]].concat());
}

#[test]
fn an_archive_gets_all_outputs() {
    let two = Two::new();
    // The names of outputs are kept as they are, paths or not.
    let expected = |names: &[&str]| {
        let (a, b) = (file_of(&[1.0, 2.0]), file_of(&[-1.0, -2.0]));
        let all = [("a.npy", &a), ("b/c.npy", &b)];
        npz(false, &all.into_iter().filter(|(name, _)| names.contains(name)).collect::<Vec<_>>())
    };
    assert!(two.run(&["all.npz"]).status.success());
    assert_eq!(fs::read(two.path("all.npz")).unwrap(), expected(&["a.npy", "b/c.npy"]));
    assert!(two.run(&["b/c=b.npz", "a=a.npy"]).status.success());
    assert_eq!(fs::read(two.path("b.npz")).unwrap(), expected(&["b/c.npy"]));
    assert_eq!(fs::read(two.path("a.npy")).unwrap(), file_of(&[1.0, 2.0]));
    let mut file = negation();
    file.graph.outputs[0].name = "č/../y".into();
    let model = two.folder.model(&file);
    let x = two.folder.array("x.npy", &[1, 2], &[1f32, 2.0]);
    let out = two.folder.string("y.npz");
    assert_eq!(
        refusal(&["run", &model, "--input", &x, "--output", &out]),
        format!("cannot write `{out}`: a .npz file takes no array `č/../y`: give it a .npy file")
    );
    let out = two.folder.string("y.npy");
    assert!(lumina(&["run", &model, "--input", &x, "--output", &out]).status.success());
    assert!(!two.path("y.npz").exists());
}

#[test]
fn two_outputs_of_one_path_are_refused() {
    let two = Two::new();
    fs::create_dir(two.path("d")).unwrap();
    symlink("d", two.path("e")).unwrap();
    symlink("d/new", two.path("link")).unwrap();
    fs::write(two.path("old"), "old").unwrap();
    symlink("old", two.path("to-old")).unwrap();
    fs::hard_link(two.path("old"), two.path("hard")).unwrap();
    make_pipe(&two.path("pipe"));
    let absolute = two.folder.string("y");
    for (first, second) in [
        ("y", "y"),
        ("y", "./y"),
        ("y", "d/../y"),
        ("y", &*absolute),
        ("d/new", "e/new"),
        ("d/new", "link"),
        ("old", "to-old"),
        ("old", "hard"),
        ("pipe", "./pipe"),
        ("-", "-"),
        ("-", "/dev/stdout"),
        ("all.npz", "all.npz"),
    ] {
        let is_archive = first == "all.npz";
        let arguments = [format!("a={first}"), format!("b/c={second}")];
        let first_argument = if is_archive { first } else { &arguments[0] };
        assert_eq!(
            two.refusal(&[first_argument, &arguments[1]]),
            format!(
                "--output {second} leads to the same file as {first}: give it a path of its own"
            )
        );
    }
    assert_eq!(two.refusal(&["a=y", "a=z"]), "output `a` is given twice");
    let model = &two.model;
    assert_eq!(
        two.refusal(&["a=./m.lmn"]),
        format!("--output ./m.lmn leads to the same file as {model}: give it a path of its own")
    );
    assert_eq!(fs::read(two.path("old")).unwrap(), b"old");
    assert!(!two.path("y").exists() && !two.path("d/new").exists());
    // An input may be replaced: it has been read.
    assert!(two.run(&["b/c=x.npy"]).status.success());
    assert_eq!(read::<f32>(&two.path("x.npy")).1, [-1.0, -2.0]);
}

#[test]
fn the_mode_of_an_older_file_is_kept() {
    let two = Two::new();
    let y = two.path("y");
    for mode in [0o600, 0o640, 0o444, 0o755] {
        fs::write(&y, "old").unwrap();
        fs::set_permissions(&y, Permissions::from_mode(mode)).unwrap();
        let old = fs::metadata(&y).unwrap();
        assert!(two.run(&["a=y"]).status.success());
        let new = fs::metadata(&y).unwrap();
        assert_eq!(new.mode(), old.mode());
        assert_eq!(fs::read(&y).unwrap(), file_of(&[1.0, 2.0]));
        fs::remove_file(&y).unwrap();
    }
    // Only root gives files away.
    fs::write(&y, "old").unwrap();
    if std::os::unix::fs::chown(&y, Some(12), Some(34)).is_ok() {
        assert!(two.run(&["a=y"]).status.success());
        let new = fs::metadata(&y).unwrap();
        assert_eq!((new.uid(), new.gid()), (12, 34));
    }
    let mut shell = Command::new("sh");
    shell.current_dir(two.path("")).args(["-c", "umask 027; exec \"$@\"", "sh"]);
    let command = two.command(&[OsStr::new("a=new")]);
    shell.arg(command.get_program()).args(command.get_args());
    assert!(shell.output().unwrap().status.success());
    assert_eq!(fs::metadata(two.path("new")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn any_name_of_a_file_works() {
    let two = Two::new();
    let long = "n".repeat(255);
    for name in ["-x", "a=b", "a\nb", "Žlutý 模型", &long]
        .map(OsStr::new)
        .into_iter()
        .chain([OsStr::from_bytes(b"caf\xe9")])
    {
        let argument = OsStr::from_bytes(&[b"a=./", name.as_bytes()].concat()).to_owned();
        let output = two.command(&[&argument]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read(two.path("").join(name)).unwrap(), file_of(&[1.0, 2.0]), "{name:?}");
        // As an input, beside its name and alone.
        let input =
            OsStr::from_bytes(&[b"x=", argument.as_bytes()[2..].as_ref()].concat()).to_owned();
        for input in [&input[..], OsStr::from_bytes(&argument.as_bytes()[2..])] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_lumina"));
            command.current_dir(two.path("")).args(["run", &two.model, "--top", "1", "--input"]);
            let output = command.arg(input).output().unwrap();
            assert_eq!(stdout(&output), "a: 1 (2.0)\nb/c: 0 (-1.0)\n", "{output:?}");
        }
        fs::remove_file(two.path("").join(name)).unwrap();
    }
    // A dash is no option where a path is expected, and clap's own advice helps a model.
    fs::copy(&two.x, two.path("-x")).unwrap();
    fs::copy(&two.model, two.path("-m.lmn")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumina"));
        command.current_dir(two.path("")).args(["run", "--input", "-x"]).args(arguments);
        command.output().unwrap()
    };
    let output = run(&["--top", "1", "-m.lmn"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("tip: to pass '-m' as a value, use '-- -m'"), "{text}");
    let output = run(&["--top", "1", "--", "-m.lmn"]);
    assert_eq!(stdout(&output), "a: 1 (2.0)\nb/c: 0 (-1.0)\n", "{output:?}");
    let text = two.refusal(&[&format!("a={long}n")]);
    assert!(text.starts_with(&format!("cannot write `{long}n`: File name too long")), "{text}");
    let text = two.refusal(&["a=a\nb/c"]);
    assert_eq!(text, "cannot write `a\\nb/c`: there is no directory `a\\nb`: make it");
}

#[test]
fn places_where_nothing_can_be_written() {
    let two = Two::new();
    fs::create_dir(two.path("d")).unwrap();
    fs::write(two.path("f"), "old").unwrap();
    for (path, reason) in [
        ("d", "it is a directory: add a file name"),
        ("d/", "it is a directory: add a file name"),
        (".", "it is a directory: add a file name"),
        ("none/y", "there is no directory `none`: make it"),
        ("", "it has no file name"),
        ("f/y", "Not a directory (os error 20)"),
        ("/dev/full", "No space left on device (os error 28)"),
    ] {
        let text = two.refusal(&["b/c=z", &format!("a={path}")]);
        assert_eq!(text, format!("cannot write `{path}`: {reason}"));
        // Nothing has taken its place where another output failed.
        assert_eq!(two.names(), [Path::new("d"), Path::new("f")]);
    }
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let two = Two::new();
    for arguments in [&["--output", "a=-"][..], &["--top", "2"], &["--top", "2", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = two.command(&[]);
        let output = command.args(arguments).stdout(writer).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !text.contains("error"), "{text}");
    }
}

#[test]
fn full_streams_are_errors_and_never_panics() {
    let two = Two::new();
    let model = two.folder.model(&negation());
    let full = || Handle::options().write(true).open("/dev/full").unwrap();
    let x = two.folder.array("x.npy", &[1, 2], &[1f32, 2.0]);
    let run = ["run", &model, "--input", &x];
    for arguments in [
        &["inspect", &model][..],
        &["verify", &model],
        &[&run[..], &["--output", "-"]].concat(),
        &[&run[..], &["--top", "1"]].concat(),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumina"));
        let output = command.args(arguments).stdout(full()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("No space left on device"), "{text}");
        // What cannot be told changes nothing of the rest.
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumina"));
        let status = command.args(arguments).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(2));
    }
    let y = two.folder.string("y");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumina"));
    let status = command.args(run).args(["--output", &y]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(read::<f32>(Path::new(&y)).1, [-1.0, -2.0]);
    // So are streams that are closed.
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "exec \"$@\" >&- 2>&-",
        "sh",
        env!("CARGO_BIN_EXE_lumina"),
        "verify",
        &model,
    ]);
    assert_eq!(shell.status().unwrap().code(), Some(0));
}

/// A run that has written `a` to a temporary file, and waits for a reader of the pipe `b/c`.
fn waiting(two: &Two, before: &str) -> Child {
    make_pipe(&two.path("pipe"));
    fs::write(two.path("y"), "old").unwrap();
    let command = two.command(&[OsStr::new("a=y"), OsStr::new("b/c=pipe")]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} exec \"$@\""), "sh"]).current_dir(two.path(""));
    shell.arg(command.get_program()).args(command.get_args()).stderr(Stdio::null());
    let child = shell.spawn().unwrap();
    let begin = Instant::now();
    while two.names().len() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", two.names());
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

/// Whether these tests, and with them the programs that they start, ignore the signal, as under nohup.
fn is_ignored(number: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> (number - 1) & 1 == 1)
}

#[test]
fn a_signal_leaves_no_temporary_file() {
    let signals = [("-HUP", 1), ("-INT", 2), ("-TERM", 15)];
    for (signal, number) in signals.into_iter().filter(|&(_, number)| !is_ignored(number)) {
        let two = Two::new();
        let mut child = waiting(&two, "");
        send(&child, signal);
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        assert_eq!(two.names(), [Path::new("pipe"), Path::new("y")]);
        assert_eq!(fs::read(two.path("y")).unwrap(), b"old");
    }
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let two = Two::new();
    // As nohup starts it.
    let mut child = waiting(&two, "trap '' HUP;");
    send(&child, "-HUP");
    assert_eq!(fs::read(two.path("pipe")).unwrap(), file_of(&[-1.0, -2.0]));
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read(two.path("y")).unwrap(), file_of(&[1.0, 2.0]));
    assert_eq!(two.names(), [Path::new("pipe"), Path::new("y")]);
}
