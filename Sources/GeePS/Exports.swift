// Who imports GeePS can name what its API speaks of: tables, rules and staleness, devices, batches and buffers, the
// client. See docs/decisions/0009-what-geeps-re-exports.md.
@_exported public import GeePSClient
@_exported public import GeePSCore
@_exported public import GeePSDevice
@_exported public import GeePSMemory
