import Testing

@Suite struct ProptestPlaceholder {
}
