{
  # Only a bridge: tools that drive node-gyp build the addon through the same CMakeLists.txt.
  "targets": [
    {
      "target_name": "usm_lite",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build/Release/usm_lite.node"],
          "action": ["npx", "--no-install", "cmake-js", "compile"]
        }
      ]
    }
  ]
}
