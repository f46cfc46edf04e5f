import Testing

@Suite struct ProjectionsPlaceholder {
}
