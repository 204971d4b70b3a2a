//! A child process with a declared environment.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Child, ExitStatus, Output, Stdio};

use secrecy::ExposeSecret;

use crate::environment::{Environment, INHERITED};

/// A program to run with declared variables and nothing else but `PATH`, `HOME`, `TZ` and `LANG`.
///
/// Made by [`Environment::command`]. The standard library's command prints its environment with `Debug`, so it is kept
/// inside and cannot be had: this one prints the program, its arguments and the names of its variables.
///
/// Arguments are not for secrets: every user of a machine can read them.
///
/// # Examples
/// ```
/// use secrecy::SecretString;
/// use zk_creds::Environment;
///
/// let mut environment = Environment::default();
/// environment.set("API_KEY", SecretString::from("s3cret"))?;
/// let mut command = environment.command("env");
/// assert!(!format!("{command:?}").contains("s3cret"));
/// # #[cfg(unix)]
/// assert!(String::from_utf8_lossy(&command.output()?.stdout).contains("API_KEY=s3cret"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Command {
    inner: std::process::Command,
    names: Vec<String>,
}

impl Command {
    pub(crate) fn new(program: &OsStr, environment: &Environment) -> Self {
        let mut inner = std::process::Command::new(program);
        inner.env_clear();
        inner.envs(INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        inner.envs(environment.values().map(|(name, value)| (name, value.expose_secret())));
        Self { inner, names: environment.names().map(str::to_owned).collect() }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.inner.args(arguments);
        self
    }

    /// Sets the directory that the program starts in.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(directory);
        self
    }

    /// Sets what the program reads.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.inner.stdin(stdin);
        self
    }

    /// Sets where the program writes.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.inner.stdout(stdout);
        self
    }

    /// Sets where the program writes its errors.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.inner.stderr(stderr);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// The operating system's, when it cannot be started.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.inner.spawn()
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.inner.status()
    }

    /// Runs the program to its end and returns what it wrote.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn output(&mut self) -> io::Result<Output> {
        self.inner.output()
    }

    /// Becomes the program: on success this process is it, and this does not return.
    #[cfg(unix)]
    pub fn exec(&mut self) -> io::Error {
        std::os::unix::process::CommandExt::exec(&mut self.inner)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, names } = self;
        f.debug_struct("Command")
            .field("program", &inner.get_program())
            .field("args", &inner.get_args().collect::<Vec<_>>())
            .field("current_dir", &inner.get_current_dir())
            .field("environment", &format_args!("{} [redacted]", names.join(", ")))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn command(program: &str) -> Command {
        let mut environment = Environment::default();
        environment.set("ZK_TEST_VALUE", SecretString::from("a value with\nlines and 'quotes'")).unwrap();
        environment.command(program)
    }

    #[test]
    fn debug_names_the_variables_and_not_their_values() {
        let mut command = command("/bin/sh");
        command.args(["-c", "true"]).current_dir("/").stdin(Stdio::null());
        let text = format!("{command:?} {command:#?}");
        assert!(text.contains("ZK_TEST_VALUE [redacted]") && text.contains("/bin/sh"), "{text}");
        assert!(!text.contains("a value"), "{text}");
        let child = format!("{:?}", command.spawn().unwrap().wait());
        assert!(!child.contains("a value"), "{child}");
    }

    #[test]
    fn errors_of_a_start_name_no_value() {
        let error = command("/no/such/program").spawn().unwrap_err();
        assert!(!format!("{error:?} {error}").contains("a value"));
    }

    #[test]
    fn a_child_sees_declared_names_and_nothing_else() {
        let output = command("env").arg("-0").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<&str> = text.split('\0').filter_map(|line| line.split('=').next()).collect();
        names.retain(|name| !name.is_empty() && !INHERITED.contains(name));
        assert_eq!(names, ["ZK_TEST_VALUE"]);
        assert!(text.contains("ZK_TEST_VALUE=a value with\nlines and 'quotes'\0"));
    }
}
