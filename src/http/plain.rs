//! Free-form objects of the document, said so that every generator understands them.

use serde_json::json;
use utoipa::openapi::{
    Content, OpenApi, RefOr, Schema,
    path::Operation,
    schema::{AdditionalProperties, ArrayItems, Object},
};

/// `additionalProperties: {}` becomes `true`: both allow every value, but generators make maps of pointers, or of maps, from
/// the first. That the names of an object are text goes without saying.
pub fn plain(document: &mut OpenApi) {
    if let Some(components) = &mut document.components {
        components.schemas.values_mut().for_each(of_ref);
    }
    for item in document.paths.paths.values_mut() {
        let all = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        all.into_iter().flatten().for_each(of_operation);
    }
}

fn of_operation(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            parameter.schema.iter_mut().for_each(of_ref);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.values_mut().for_each(of_content);
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.values_mut().for_each(of_content);
        }
    }
}

fn of_content(content: &mut RefOr<Content>) {
    if let RefOr::T(content) = content {
        content.schema.iter_mut().for_each(of_ref);
    }
}

fn of_ref(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => of_object(object),
        Schema::Array(array) => match &mut array.items {
            ArrayItems::RefOrSchema(items) => of_ref(items),
            ArrayItems::False => {}
        },
        Schema::OneOf(one) => one.items.iter_mut().for_each(of_ref),
        Schema::AllOf(all) => all.items.iter_mut().for_each(of_ref),
        Schema::AnyOf(any) => any.items.iter_mut().for_each(of_ref),
        _ => {}
    }
}

fn of_object(object: &mut Object) {
    object.properties.values_mut().for_each(of_ref);
    if let Some(AdditionalProperties::RefOr(others)) = object.additional_properties.as_deref_mut() {
        if serde_json::to_value(&*others).is_ok_and(|said| said == json!({})) {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(true)));
        } else {
            of_ref(others);
        }
    }
    if serde_json::to_value(&object.property_names).is_ok_and(|said| said == json!({"type": "string"})) {
        object.property_names = None;
    }
}
