//! Not written yet.
#[derive(clap::Args)]
pub struct Args {}
pub fn run(_: &Args) -> qcore::Result<()> {
    Ok(())
}
