//! Attacks that are not contained yet.

use crate::bounds::is_strict;

/// The attack's name and the fault it shows, as `faults-hostile.md` numbers it; N1 and N2 were found by these attacks.
/// An entry whose attack is contained fails the test. Holds for the bounds of a busy machine.
const KNOWN_FAILING: &[(&str, &str)] = &[];

/// The fault that an attack shows, if it is not contained yet.
pub fn fault_of(attack: &str) -> Option<&'static str> {
    if is_strict() {
        return None;
    }
    KNOWN_FAILING
        .iter()
        .find(|(name, _)| *name == attack)
        .map(|(_, fault)| *fault)
}
