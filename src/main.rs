fn main() {
    stdiopool::worker::run_guardian_if_asked();
}
