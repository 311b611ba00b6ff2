//! The Microsoft clouds with a preset: the addresses for sign-in and API, and the audience of tokens.

/// The three addresses of a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudPreset {
    /// Name in the setting `cloud`.
    pub name: &'static str,
    /// Origin of Entra ID.
    pub authority: &'static str,
    /// Origin of Azure Resource Manager.
    pub endpoint: &'static str,
    /// The token's scope without `/.default`.
    pub audience: &'static str,
    /// OCSF `cloud_partition`; `None` in the public cloud.
    pub partition: Option<&'static str>,
}

/// The presets. Sources: azure-mgmt-core `get_arm_endpoints` and azure-cli-core `cloud.py`. In the government cloud,
/// the audience differs from the endpoint.
pub const CLOUDS: &[CloudPreset] = &[
    CloudPreset {
        name: "public",
        authority: "https://login.microsoftonline.com",
        endpoint: "https://management.azure.com",
        audience: "https://management.azure.com",
        partition: None,
    },
    CloudPreset {
        name: "us-government",
        authority: "https://login.microsoftonline.us",
        endpoint: "https://management.usgovcloudapi.net",
        audience: "https://management.core.usgovcloudapi.net",
        partition: Some("AzureUSGovernment"),
    },
];
