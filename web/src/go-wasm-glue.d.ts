declare module "go-wasm-glue";
