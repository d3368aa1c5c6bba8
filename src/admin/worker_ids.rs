//! Worker ids in the rows of the API.

/// Worker ids as they are printed, `w12`.
pub(super) mod worker_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::ids::WorkerId;

    pub(in crate::admin) fn serialize<S: Serializer>(
        id: &WorkerId,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_str(id)
    }

    pub(in crate::admin) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<WorkerId, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// Ids of workers that may not be there, as they are printed, or null.
pub(super) mod optional_worker_id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::ids::WorkerId;

    pub(in crate::admin) fn serialize<S: Serializer>(
        id: &Option<WorkerId>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(s)
    }

    pub(in crate::admin) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<WorkerId>, D::Error> {
        Option::<String>::deserialize(d)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
