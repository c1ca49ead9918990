//! Git's child process, for tests: the program itself has it as a hidden command.

fn main() -> std::io::Result<()> {
    trainyard_forge::git::serve_one_request()
}
