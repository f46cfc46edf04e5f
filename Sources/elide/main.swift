print("elide")
