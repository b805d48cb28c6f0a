//! What the dry runs would stop if they were enforced.

use serde::{Deserialize, Serialize};

use crate::explain::{Cause, Outcome, Query, Side};
use crate::model::{Direction, PolicyRef};
use crate::set::{PolicySet, Scope};

/// A side of a flow that passes now, and would not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breakage {
    /// The dry runs it is due to: that of the rule that decides, else those that isolate the pod.
    pub policies: Vec<PolicyRef>,
    /// What the side would do.
    pub would: Side,
}

impl PolicySet {
    /// What would stop one side of a flow if **all** dry runs were enforced together, as the
    /// policies of a namespace are once they are. `None` if it is stopped already, would still
    /// pass, or is no pod of the mesh.
    pub fn breakage(&self, query: &Query, direction: Direction) -> Option<Breakage> {
        let now = self.side(query, direction, Scope::Enforced)?;
        let would = self.side(query, direction, Scope::All)?;
        if now.outcome == Outcome::Denied || would.outcome == Outcome::Allowed {
            return None;
        }
        let mut policies: Vec<PolicyRef> = match &would.cause {
            Cause::Rule { rule, .. } | Cause::AuthenticationRequired { rule, .. } => {
                vec![rule.policy.clone()]
            }
            Cause::OwnNode
            | Cause::Itself
            | Cause::Isolated
            | Cause::NotIsolated
            | Cause::WorldNeedsRule => would.isolated_by.clone(),
        };
        policies.retain(|policy| self.is_dry_run(policy));
        if policies.is_empty() {
            // A rule in force decides once a dry run has taken away what came before it.
            let isolating = would.isolated_by.iter();
            policies.extend(isolating.filter(|policy| self.is_dry_run(policy)).cloned());
        }
        Some(Breakage { policies, would })
    }
}
