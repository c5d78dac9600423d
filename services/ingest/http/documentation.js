// This Swagger UI shows documents of OpenAPI 3.0 only, and ours reads the same in both versions.
fetch("openapi.json")
  .then((response) => response.json())
  .then((spec) => SwaggerUIBundle({ spec: { ...spec, openapi: "3.0.3" }, dom_id: "#page", deepLinking: true }));
