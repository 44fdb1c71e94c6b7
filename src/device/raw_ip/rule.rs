//! The firewall rule (nft(8)) that drops the resets which the kernel sends for connections that are not its own. It knows no socket.

use super::RawIp;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A rule in force, until it is dropped.
#[derive(Debug)]
pub(super) struct Rule {
    program: &'static str,
    table: String,
}

impl Rule {
    /// Has `program` install the rule for `address`, in the place of one that is there.
    pub(super) fn install(program: &'static str, address: Ipv4Addr) -> io::Result<Self> {
        run(program, &script(address)).map_err(|error| {
            let text = format!(
                "keeping the kernel from resetting the connections of {address}: {error}; as root: {}, and open the device behind that rule",
                command(address)
            );
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self { program, table: table(address) })
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        if let Err(error) = run(self.program, &format!("delete table ip {}", self.table)) {
            tracing::warn!(%error, table = self.table, "the rule that drops the kernel's resets stays: nft delete table ip TABLE");
        }
    }
}

/// The shell command that installs the rule.
pub(super) fn command(address: Ipv4Addr) -> String {
    format!("nft '{}'", script(address))
}

/// One transaction: a table of our own, new whether or not it was there, with one chain and one rule.
fn script(address: Ipv4Addr) -> String {
    let (table, mark) = (table(address), RawIp::MARK);
    format!(
        "add table ip {table}; delete table ip {table}; add table ip {table}; \
         add chain ip {table} output {{ type filter hook output priority 0; }}; \
         add rule ip {table} output ip saddr {address} tcp flags & rst == rst meta mark != {mark:#x} counter drop"
    )
}

fn table(address: Ipv4Addr) -> String {
    format!("synfin_{}", address.to_string().replace('.', "_"))
}

fn run(program: &str, script: &str) -> io::Result<()> {
    let own = env::var_os("PATH").unwrap_or_default();
    let output = Command::new(program).arg(script).env("PATH", search_path(&own)).stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => io::Error::new(ErrorKind::Unsupported, format!("there is no {program} (Debian: apt install nftables)")),
        kind => io::Error::new(kind, format!("running {program}: {error}")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let line = complaint.lines().next().unwrap_or("no reason given");
    Err(io::Error::new(ErrorKind::PermissionDenied, format!("{program} refused: {line}")))
}

/// Where programs are looked for: the absolute folders of `own`, since privilege must not follow the working directory, then the system's.
fn search_path(own: &OsStr) -> OsString {
    let folders = env::split_paths(own).filter(|folder| folder.is_absolute());
    env::join_paths(folders.chain(ADMINISTRATORS_FOLDERS.map(PathBuf::from))).unwrap_or_default()
}

/// The program that changes the kernel's tables.
pub(super) const PROGRAM: &str = "nft";

/// Where it is where `PATH` does not lead: Debian's users have no path to it.
const ADMINISTRATORS_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[test]
    fn missing_program_is_answered_with_the_command() {
        let error = Rule::install("synfin-no-such-program", ADDRESS).expect_err("no such program");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(&command(ADDRESS)), "{error}");
    }

    #[test]
    fn refusal_is_answered_with_the_command() {
        let error = Rule::install("false", ADDRESS).expect_err("it always fails");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(&command(ADDRESS)), "{error}");
    }

    #[test]
    fn command_names_address_and_mark() {
        let rule = "add rule ip synfin_192_0_2_7 output ip saddr 192.0.2.7 tcp flags & rst == rst meta mark != 0x73796e66 counter drop'";
        assert!(command(ADDRESS).ends_with(rule), "{}", command(ADDRESS));
    }

    #[test]
    fn programs_come_from_absolute_folders() {
        let path = |own: &str| search_path(OsStr::new(own)).into_string().expect("text");
        assert_eq!(path(""), "/usr/sbin:/sbin");
        assert_eq!(path(":bin:/opt/bin:."), "/opt/bin:/usr/sbin:/sbin");
    }
}
