import Testing

@Suite struct IOPlaceholder {
}
